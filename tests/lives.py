"""Soups that are put together and taken apart at random, as state machines for tests."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from math import lcm
from pathlib import Path
from types import MappingProxyType
from typing import Any

from exact_means import mean_bytes
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from making import contents, metadata, save_raw
from revising import Weighted, average, revise, root

from soupctl import verbs
from soupctl.engines.reference import largest_code
from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType
from soupctl.verbs import ExecutionOptions, Level

SIZE = 12
DTYPES = (DType.F16, DType.BF16, DType.F32)
NAMES = "abcdef"


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[DType, bytes]:
    """Finite values in one dtype, most of them where rounding, underflow and overflow are near."""
    dtype = draw(st.sampled_from(DTYPES))
    form = dtype.float_format
    top, largest = 2 ** (dtype.bits - 1), largest_code(form)
    unit = 2 ** (form.precision - 1)
    near = st.sampled_from((0, 1, unit - 1, unit, largest // 2, largest - 1, largest))
    codes = draw(st.lists(near | st.integers(0, largest), min_size=SIZE, max_size=SIZE))
    signs = draw(st.integers(0, 2**SIZE - 1))
    signed = (code + top * (signs >> place & 1) for place, code in enumerate(codes))
    return dtype, b"".join(code.to_bytes(dtype.bits // 8, "little") for code in signed)


pool = st.lists(checkpoints(), min_size=len(NAMES), max_size=len(NAMES), unique=True)
weights = st.sampled_from([Fraction(n, d) for n in (1, 2, 3) for d in (1, 2, 5)])
names = st.sampled_from(NAMES)
paces = st.builds(ExecutionOptions, st.integers(1, 3), st.sampled_from((None, 1, 5)))


class Life(RuleBasedStateMachine):
    """A soup, and beside it what it should hold."""

    keep_sum = False
    choices: Mapping[str, Any] = MappingProxyType({})
    """Options of `avg` that all of its soups are made with."""

    @initialize(found=pool, first=names)
    def begin(self, found: list[tuple[DType, bytes]], first: str) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.found = dict(zip(NAMES, found, strict=True))
        self.held: dict[str, Fraction] = {}
        self.step = 0
        (self.folder / "deep").mkdir()
        for name, (dtype, data) in self.found.items():
            save_raw(self.path(name), {"w": (dtype.value, (SIZE,), data)})
        self.held = {first: Fraction(1)}
        self.average(self.soup, self.path(first))

    def average(self, output: Path, *pairs: Weighted) -> None:
        average(output, *pairs, keep_sum=self.keep_sum, **self.choices)

    def path(self, name: str) -> Path:
        return self.folder / "in" / f"{name}.st"

    @property
    def soup(self) -> Path:
        # every other place lies deeper, so that hints change
        return self.folder / ("deep" if self.step % 2 else "") / f"{self.step}.st"

    def change(self, wanted: dict[str, Fraction], *arguments: object, **options: object) -> None:
        """Make the next soup."""
        before = self.soup
        self.step += 1
        self.revise(wanted, before, *arguments, **options)
        self.held = wanted

    def revise(
        self, wanted: dict[str, Fraction], before: Path, *arguments: object, **options: object
    ) -> None:
        revise("change", before, self.soup, *arguments, **options)

    def made(self) -> object:
        """The dtype and bytes of the soup."""
        dtype, _, data = contents(self.soup)["w"]
        return dtype, data

    def expected(self, held: dict[str, Fraction]) -> object:
        """The dtype and bytes of the exact mean."""
        return mean_bytes([(weight, *self.found[name]) for name, weight in held.items()])

    @rule(name=names, weight=st.none() | weights, execution=paces)
    def add(self, name: str, weight: Fraction | None, execution: ExecutionOptions) -> None:
        total = self.held.get(name, Fraction(0)) + (1 if weight is None else weight)
        new = self.path(name) if weight is None else (self.path(name), weight)
        if name in self.held:
            with_refusal(LedgerError, self.soup, [new])
        self.change(self.held | {name: total}, [new], again=name in self.held, execution=execution)

    @rule(chosen=st.dictionaries(names, weights, min_size=1, max_size=3))
    def add_a_soup(self, chosen: dict[str, Fraction]) -> None:
        other = self.folder / "other.st"
        other.unlink(missing_ok=True)
        pairs = ((self.path(name), weight) for name, weight in chosen.items())
        for old in self.folder.glob("other.st.*.sum"):
            old.unlink()
        self.average(other, *pairs)
        wanted = dict(self.held)
        for name, weight in chosen.items():
            wanted[name] = wanted.get(name, Fraction(0)) + weight
        self.change(wanted, [other], again=True)

    @precondition(lambda self: len(self.held) > 1)
    @rule(data=st.data(), by=st.sampled_from(("path", "name", "digest")), execution=paces)
    def subtract(self, data: st.DataObject, by: str, execution: ExecutionOptions) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        digest = root(self.path(name))
        (entry,) = verbs.holds(self.soup, digest) or ()
        ways = {"path": self.path(name), "name": entry.name, "digest": digest}
        wanted = {each: weight for each, weight in self.held.items() if each != name}
        self.change(wanted, (), [ways[by]], execution=execution)

    @rule(data=st.data(), part=st.sampled_from((Fraction(1, 3), Fraction(1, 2))))
    def subtract_a_part(self, data: st.DataObject, part: Fraction) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        taken = self.held[name] * part
        self.change(self.held | {name: self.held[name] - taken}, (), [(self.path(name), taken)])

    @rule(data=st.data(), new=names)
    def swap(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.held)))
        wanted = dict(self.held)
        weight = wanted.pop(old)
        wanted[new] = wanted.get(new, Fraction(0)) + weight
        self.change(wanted, [(self.path(new), weight)], [self.path(old)], again=True)

    @rule()
    def begin_again_from_what_remains(self) -> None:
        """A soup that was averaged at once goes on like one that came about in steps."""
        self.step += 2
        pairs = ((self.path(name), weight) for name, weight in self.held.items())
        self.average(self.soup, *pairs)

    @rule(name=names)
    def refuse(self, name: str) -> None:
        if name not in self.held:
            with_refusal(LedgerError, self.soup, (), [self.path(name)])
        else:
            with_refusal(LedgerError, self.soup, (), [(self.path(name), self.held[name] + 1)])
        with_refusal(LedgerError, self.soup, (), [self.path(each) for each in self.held])

    @invariant()
    def the_soup_is_the_exact_mean_of_what_remains(self) -> None:
        if not hasattr(self, "held"):
            return
        assert self.expected(self.held) == self.made()
        ((_, ledger),) = verbs.history(self.soup)
        assert self.held == {Path(entry.name).stem: entry.weight for entry in ledger.ingredients}
        assert ledger.root == root(self.soup)
        assert ledger.exact

    @invariant()
    def the_soup_is_proven_from_where_it_lies(self) -> None:
        if hasattr(self, "held"):
            (found,) = verbs.verify(self.soup)
            assert (None, Level.REBUILD) == (found.problem, found.level)

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()


def with_refusal(kind: type[Exception], soup: Path, *arguments: object) -> None:
    """Assert that a change is refused and leaves no file."""
    output = soup.with_name("refused.st")
    try:
        revise("change", soup, output, *arguments)
    except kind:
        assert not output.exists()
    else:
        raise AssertionError("was not refused")


class KeptLife(Life):
    """A soup whose sum is kept, and of whose ingredients only those that change can be read.

    Of a soup that is put in, its own sum is enough.
    """

    keep_sum = True

    def revise(
        self, wanted: dict[str, Fraction], before: Path, *arguments: object, **options: object
    ) -> None:
        named = str(arguments)
        unchanged = [
            name
            for name in NAMES
            if str(self.path(name)) not in named
            and ("other.st" in named or self.held.get(name) == wanted.get(name))
        ]
        for name in unchanged:
            self.path(name).rename(self.hidden(name))
        try:
            made = revise("change", before, self.soup, *arguments, **options)
            read = made.read
        except LedgerError:
            # weights of ever more denominators are at last too fine for one sum
            read = None
        for name in unchanged:
            self.hidden(name).rename(self.path(name))
        if read is None:
            assert self.is_too_fine(before, wanted)
            revise("change", before, self.soup, *arguments, **options)

    def hidden(self, name: str) -> Path:
        return self.folder / f"{name}.hidden"

    def is_too_fine(self, before: Path, wanted: dict[str, Fraction]) -> bool:
        """Whether the scale of the sum, with what is to change, makes too large numbers."""
        scale = Fraction(json.loads(metadata(self.sum_of(before))["soupctl.sum"])["scale"])
        changes = [wanted.get(name, 0) - self.held.get(name, 0) for name in NAMES]
        scale *= lcm(*((scale * change).denominator for change in changes))
        return max(scale * sum(wanted.values()), *(scale * abs(each) for each in changes)) > 2**62

    def sum_of(self, soup: Path) -> Path:
        (found,) = soup.parent.glob(f"{soup.name}.*.sum")
        return found

    @invariant()
    def the_sum_lies_beside_the_soup_alone(self) -> None:
        if hasattr(self, "held"):
            expected = f"{self.soup.name}.{root(self.soup)[7:19]}.sum"
            assert expected == self.sum_of(self.soup).name
