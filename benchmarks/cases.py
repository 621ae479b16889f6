"""The registry: what is measured, against what, and what each figure ought to be.

Rule 1: a case is data; how it is run is the business of run.py.
Rule 2: a target stands here as soupctl's promise, before it is measured, and is not moved to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from checkpoints import Ingredients

INPUTS = "{inputs}"
OTHERS = "{others}"
LAST = "{last}"
SOUP = "{soup}"
OUT = "{out}"

AVERAGE = ("avg", INPUTS, "-o", OUT)
KEEP_SUM = "--keep-sum"
PREPARED = ("avg", INPUTS, "-o", SOUP, KEEP_SUM)
"""How SOUP comes about, before a case that names it."""


class Versus(Enum):
    """What runs in turn with soupctl; the ratio of each pair is named after it."""

    LIMIT = "limit"
    """limit.c: every byte of the inputs read, one output written, on two threads, and fsync."""
    SCRIPT = "script"
    """The usual averaging script (rivals/usual_script.py)."""
    PYTHON = "python"
    """`python -c pass`."""
    REAVERAGING = "re-averaging"
    """soupctl's own average of all ingredients but the last."""
    PLAIN = "plain average"
    """soupctl's own average, which keeps no sum."""

    @property
    def command(self) -> tuple[str, ...] | None:
        """soupctl's arguments, where soupctl is measured against itself."""
        match self:
            case Versus.REAVERAGING:
                return ("avg", OTHERS, "-o", OUT)
            case Versus.PLAIN:
                return AVERAGE
            case _:
                return None

    @property
    def is_slower_way(self) -> bool:
        """Whether it is what people do without soupctl's command, and the ratio is a gain."""
        return self in {Versus.SCRIPT, Versus.REAVERAGING}

    @property
    def ratio_name(self) -> str:
        """What the ratio means: how often a slower way's time holds ours, else the reverse."""
        return f"{self.value} / soupctl" if self.is_slower_way else f"soupctl / {self.value}"


class Measure(Enum):
    """A figure that a target speaks of."""

    RATIO = "median ratio"
    WALL = "median wall seconds"
    ANONYMOUS = "peak anonymous MiB"
    FILES = "open files"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure, from above unless `at_least`."""

    measure: Measure
    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether `value` keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def verdict(self, value: float) -> str:
        """The bound, the value, and by how much it is missed if it is."""
        sign = ">=" if self.at_least else "<="
        off = "met" if self.met(value) else f"MISSED by {abs(value / self.bound - 1):.0%}"
        return f"{self.measure.value} {value:.3g}, target {sign} {self.bound:g}: {off}"


@dataclass(frozen=True, slots=True)
class Case:
    """One command on one set of ingredients."""

    name: str
    shows: str
    command: tuple[str, ...]
    """soupctl's arguments; INPUTS, OTHERS (all but LAST), LAST, SOUP and OUT stand for paths."""
    ingredients: Ingredients | None = None
    versus: Versus | None = None
    targets: tuple[Target, ...] = ()
    runs: int = 5
    evicted: bool = False
    """Whether the inputs are evicted from memory before every run, however small they are."""
    watched_runs: int = 1
    """Runs that are looked at for memory and files; the highest peak counts."""
    first_run: bool = False
    """Whether every run begins with an empty user cache, as the first after installation."""

    @property
    def needs_soup(self) -> bool:
        """Whether a soup of the ingredients, with its sum, is made before it."""
        return SOUP in self.command


REMOVAL = ("subtract", SOUP, LAST, "-o", OUT)
MEMORY = Target(Measure.ANONYMOUS, 200)
TWO_OF_FP16 = Target(Measure.RATIO, 1.6)
OTHERS_OF_16_BITS = Target(Measure.RATIO, 1.8)
EIGHT = Target(Measure.RATIO, 1.4)
COLD = Target(Measure.RATIO, 1.3)
THREE_TIMES_FASTER = Target(Measure.RATIO, 3.0, at_least=True)
CLEARLY_FASTER = Target(Measure.RATIO, 1.5, at_least=True)
NEVER_SLOWER = Target(Measure.RATIO, 1.0, at_least=True)

CASES = (
    Case("fp16-2", "the commonest soup", AVERAGE, Ingredients("unet", "F16", 2),
         Versus.LIMIT, (TWO_OF_FP16, MEMORY)),
    Case("fp16-2-cold", "the same with nothing of the inputs in memory", AVERAGE,
         Ingredients("unet", "F16", 2), Versus.LIMIT, (COLD,), evicted=True),
    Case("fp16-3", "a total that is no power of two, so every element is divided", AVERAGE,
         Ingredients("unet", "F16", 3), Versus.LIMIT, (OTHERS_OF_16_BITS, MEMORY)),
    Case("script-fp16-2", "the usual script on the commonest soup", AVERAGE,
         Ingredients("unet", "F16", 2), Versus.SCRIPT, (THREE_TIMES_FASTER,)),
    Case("threads-32", "a memory limit where many threads want buffers",
         (*AVERAGE, "--threads", "32", "--max-memory", "256M"), Ingredients("unet", "F16", 2),
         # 256 MB, in either definition of a megabyte
         targets=(Target(Measure.ANONYMOUS, 244),), watched_runs=3),
    Case("fp16-8", "many ingredients", AVERAGE, Ingredients("unet", "F16", 8),
         Versus.LIMIT, (EIGHT, MEMORY)),
    Case("keep-sum-2", "what keeping the sum costs", (*AVERAGE, KEEP_SUM),
         Ingredients("unet", "F16", 2), Versus.PLAIN, (MEMORY,)),
    Case("keep-sum-8", "what keeping the sum costs, many ingredients", (*AVERAGE, KEEP_SUM),
         Ingredients("unet", "F16", 8), Versus.PLAIN, (MEMORY,)),
    Case("subtract-8", "one of eight taken out by the kept sum, which is then dropped",
         (*REMOVAL, "--no-keep-sum"), Ingredients("unet", "F16", 8), Versus.REAVERAGING,
         (CLEARLY_FASTER, MEMORY)),
    Case("subtract-8-keep", "one of eight taken out, and the new sum kept",
         (*REMOVAL, KEEP_SUM), Ingredients("unet", "F16", 8), Versus.REAVERAGING, (MEMORY,)),
    Case("subtract-4", "one of four taken out, for a machine with little disk",
         (*REMOVAL, "--no-keep-sum"), Ingredients("unet", "F16", 4), Versus.REAVERAGING,
         (MEMORY,)),
    Case("bf16-2", "bfloat16", AVERAGE, Ingredients("unet", "BF16", 2), Versus.LIMIT,
         (OTHERS_OF_16_BITS, MEMORY)),
    Case("bf16-3", "bfloat16, every element divided", AVERAGE, Ingredients("unet", "BF16", 3),
         Versus.LIMIT, (OTHERS_OF_16_BITS, MEMORY)),
    Case("tiny", "start-up of an average", AVERAGE, Ingredients("1mb", "F16", 2),
         targets=(Target(Measure.WALL, 0.200),), runs=21),
    Case("bf16-8", "bfloat16, many ingredients", AVERAGE, Ingredients("unet", "BF16", 8),
         Versus.LIMIT, (MEMORY,)),
    Case("fp32-2", "float32", AVERAGE, Ingredients("unet", "F32", 2), Versus.LIMIT, (MEMORY,)),
    Case("fp32-8", "float32, many ingredients", AVERAGE, Ingredients("unet", "F32", 8),
         Versus.LIMIT, (MEMORY,)),
    Case("script-small", "the usual script on checkpoints of 1 MB", AVERAGE,
         Ingredients("1mb", "F16", 2), Versus.SCRIPT, (NEVER_SLOWER,)),
    Case("first-run", "the first command after installation: kernels are compiled", AVERAGE,
         Ingredients("1mb", "F16", 2), targets=(MEMORY,), watched_runs=3, first_run=True),
    Case("memory-5000-tensors", "5,000 tensors", AVERAGE, Ingredients("5000-tensors", "F16", 8),
         targets=(MEMORY,), watched_runs=3),
    Case("memory-64", "64 ingredients", AVERAGE, Ingredients("16mb", "F16", 64),
         targets=(MEMORY,), watched_runs=3),
    Case("files-300", "300 ingredients, and no more open files for it", AVERAGE,
         Ingredients("1mb", "F16", 300), targets=(Target(Measure.FILES, 64), MEMORY),
         watched_runs=3),
    Case("tensors-100000", "100,000 tensors of 8 elements", AVERAGE,
         Ingredients("100000-tensors", "F16", 2), targets=(Target(Measure.WALL, 10),)),
    Case("help", "start-up", ("--help",), versus=Versus.PYTHON,
         targets=(Target(Measure.WALL, 0.150),), runs=21),
    Case("inspect-7gb", "a header, and nothing else, of 7 GB", ("inspect", INPUTS),
         Ingredients("7gb", "F16", 1, sparse=True), Versus.PYTHON,
         (Target(Measure.WALL, 0.300), MEMORY), runs=21),
)  # fmt: skip
