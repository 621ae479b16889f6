"""A recipe file as a value: inputs, steps that name earlier ones, and options.

Rule 1: a step may only name inputs and earlier steps, and unknown keys are refused.
Rule 2: numbers are exact: a file's `0.1` is read from its text as one tenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fractions import Fraction

from ...choices import OnInt, OnMissing, Quantization
from ...format.dtypes import DType
from ...frozen import frozen
from ...ledger.ledger import SoupState
from ...methods.settings import MethodSettings
from ..blocks.request import BlockWeights, ClassicBlocks
from .by_layer import LayerWeights

Blocks = BlockWeights | ClassicBlocks | LayerWeights | None


@frozen
class RecipeInput:
    """A checkpoint that a recipe names."""

    path: str
    digests: Mapping[str, str] = field(default_factory=dict)
    """Required content digests by component; a file's has the name ''."""


@frozen
class MeanStep:
    """The weighted mean, or sum, of inputs and earlier steps."""

    operands: tuple[str, ...]
    weights: tuple[Fraction, ...]
    blocks: Blocks = None
    normalize: bool = True
    """Whether the weighted sum is divided by the total weight."""


@frozen
class DifferenceStep:
    """A base, plus scaled differences of others from one: base + sum of s (added - minus)."""

    base: str
    added: tuple[str, ...]
    minus: str
    scales: tuple[Fraction, ...]
    blocks: Blocks = None


@frozen
class TakeStep:
    """An input or step, with the tensors of some globs from others."""

    source: str
    takes: tuple[tuple[str, str], ...]
    """Globs with the name of the source of matching tensors; the first match counts."""


@frozen
class MethodStep:
    """Inputs merged by a method, the base first if it has one: the only step of its recipe."""

    operands: tuple[str, ...]
    settings: MethodSettings
    has_base: bool


Operation = MeanStep | DifferenceStep | TakeStep | MethodStep


@frozen
class RecipeStep:
    """A named step."""

    name: str
    operation: Operation
    is_materialised: bool = False
    """Whether its result is written, rounded, and later steps read the file."""

    @property
    def operands(self) -> tuple[str, ...]:
        """The names that it uses."""
        match self.operation:
            case MeanStep(operands=operands) | MethodStep(operands=operands):
                return operands
            case DifferenceStep(base=base, added=added, minus=minus):
                return (base, *added, minus)
            case TakeStep(source=source, takes=takes):
                return (source, *(name for _, name in takes))


@frozen
class RecipeOptions:
    """The options of a recipe; see `Request`."""

    dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    dtype_for: tuple[tuple[str, DType], ...] = ()
    take: tuple[tuple[str, str], ...] = ()
    """Globs with the name of the input whose matching tensors are copied, not averaged."""
    pad: tuple[str, ...] = ()
    quantize: Quantization | None = None
    config_from: str | None = None
    """The name of an input."""
    on_int: OnInt = OnInt.REFUSE
    on_missing: OnMissing = OnMissing.REFUSE
    allow_nonfinite: bool = False
    component: str | None = None
    variant: str | None = None
    round_weights: int | None = None
    other_base: bool = False
    """Whether deltas are added to other models than their base, and to means."""


@frozen
class RecipeDocument:
    """A whole recipe."""

    label: str
    """The file's name in messages."""
    inputs: Mapping[str, RecipeInput]
    steps: tuple[RecipeStep, ...]
    result: str
    """The step whose result is the output."""
    options: RecipeOptions = RecipeOptions()
    history: Mapping[str, tuple[SoupState, ...]] = field(default_factory=dict)
    """For each component, '' for a file, the states of the soup that the recipe makes again."""

    @property
    def needed(self) -> tuple[RecipeStep, ...]:
        """The steps that the result depends on, in their order."""
        wanted, kept = {self.result}, []
        for step in reversed(self.steps):
            if step.name in wanted:
                kept.append(step)
                wanted.update(step.operands)
        return tuple(reversed(kept))

    @property
    def needed_inputs(self) -> tuple[str, ...]:
        """The inputs that the result depends on, in their order."""
        used = {name for step in self.needed for name in step.operands}
        return tuple(name for name in self.inputs if name in used)

    @property
    def donors(self) -> tuple[str, ...]:
        """The inputs that only give tensors with `take` at the top level, in their order."""
        taken = {name for _, name in self.options.take} - {*self.needed_inputs}
        return tuple(name for name in self.inputs if name in taken)
