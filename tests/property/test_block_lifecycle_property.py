"""Whatever changes, a soup with weights by block has the bytes of one average of what remains."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from deltas import numbers, rounded
from exact_means import mean_bytes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lives import NAMES, SIZE, names, pool, weights
from making import Raw, contents, save_raw
from revising import average, revise, root

from soupctl import verbs
from soupctl.errors import SoupError
from soupctl.format.dtypes import DType, narrowest
from soupctl.verbs import BlockWeights, Level

TENSORS = ("default.w", "left.w", "right.w")
Row = tuple[Fraction, Fraction, Fraction]
"""A weight in tensors of no block, and in the two blocks."""

signed = weights | weights.map(lambda weight: -weight) | st.just(Fraction(0))
rows = st.tuples(weights, signed, signed)
free_rows = st.tuples(signed, signed, signed).filter(any)


def is_soup(held: dict[str, Row]) -> bool:
    """Whether the weights have a positive total in every tensor."""
    return bool(held) and all(sum(column) > 0 for column in zip(*held.values(), strict=True))


class BlockLife(RuleBasedStateMachine):
    """A soup with weights by block, and beside it what it should hold."""

    keep_sum = False

    @initialize(found=pool, first=rows, second=free_rows)
    def begin(self, found: list[tuple[DType, bytes]], first: Row, second: Row) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.found = dict(zip(NAMES, found, strict=True))
        self.step = 0
        self.held: dict[str, Row] = {}
        for name, each in self.found.items():
            save_raw(self.path(name), self.tensors(name, *each))
        both = {"a": first, "b": second}
        ones = (Fraction(1),) * 3
        plain = {"a": ones, "b": (*ones[:2], Fraction(1, 2))}
        self.average(both if self.expected(both) else plain)

    def tensors(self, name: str, dtype: DType, data: bytes) -> dict[str, Raw]:
        """What the ingredient of a name has."""
        return dict.fromkeys(TENSORS, (dtype.value, (SIZE,), data))

    def choices(self) -> dict[str, Any]:
        """Other options that all soups are made with."""
        return {}

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.st"

    @property
    def soup(self) -> Path:
        return self.folder / f"soup-{self.step}.st"

    def average(self, held: dict[str, Row]) -> None:
        """Make the next soup at once."""
        self.step += 1
        default, left, right = zip(*held.values(), strict=True)
        asked = BlockWeights((("left.*", left), ("right.*", right)), default)
        options = {"blocks": asked, "keep_sum": self.keep_sum, **self.choices()}
        average(self.soup, *map(self.path, held), **options)
        self.held = held

    def revise(self, wanted: dict[str, Row], before: Path, *arguments: Any, **options: Any) -> None:
        operation, *changed = arguments
        revise(operation, before, self.soup, *changed, **options)

    def change(
        self, wanted: dict[str, Row], *arguments: Any, operation: str = "change", **options: Any
    ) -> None:
        """Make the next soup, or see that it is refused where no average makes it."""
        before = self.soup
        self.step += 1
        try:
            self.revise(wanted, before, operation, *arguments, **options)
        except SoupError:
            assert not self.expected(wanted)
            assert not self.soup.exists()
            self.step -= 1
        else:
            assert self.expected(wanted)
            self.held = wanted

    def expected(self, held: dict[str, Row]) -> dict[str, tuple[str, bytes]] | None:
        """Dtype and bytes of each tensor's exact mean; None if there is none, or none in range."""
        if not is_soup(held):
            return None
        found = {}
        for tensor, column in zip(TENSORS, zip(*held.values(), strict=True), strict=True):
            pairs = [pair for pair in zip(held, column, strict=True) if pair[1]]
            made = mean_bytes([(weight, *self.found[name]) for name, weight in pairs])
            if made is None:
                return None
            found[tensor] = made
        return found

    def with_more(self, name: str, row: Row) -> dict[str, Row]:
        mine = self.held.get(name, (Fraction(0),) * 3)
        wanted = self.held | {name: tuple(x + y for x, y in zip(mine, row, strict=True))}
        return {name: row for name, row in wanted.items() if any(row)}

    @rule(name=names, weight=weights)
    def add(self, name: str, weight: Fraction) -> None:
        new = [(self.path(name), weight)]
        wanted = self.with_more(name, (weight,) * 3)
        if name not in wanted:
            return
        self.change(wanted, new, again=True)

    @precondition(lambda self: len(self.held) > 1)
    @rule(data=st.data())
    def subtract(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        wanted = {each: row for each, row in self.held.items() if each != name}
        self.change(wanted, (), [self.path(name)])

    @rule(data=st.data(), part=st.sampled_from((Fraction(1, 3), Fraction(1, 2))))
    def subtract_a_part(self, data: st.DataObject, part: Fraction) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        row = self.held[name]
        if row[0]:
            less = tuple(weight * (1 - part) for weight in row)
            self.change(self.held | {name: less}, (), [(self.path(name), row[0] * part)])

    @rule(data=st.data(), new=names)
    def swap(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.held)))
        row = self.held[old]
        if new == old:
            return
        wanted = self.with_more(new, row)
        wanted.pop(old)
        files = [self.path(new)], [self.path(old)]
        self.change(wanted, *files, operation="swap", again=True)

    @rule()
    def begin_again_from_what_remains(self) -> None:
        """A soup that was averaged at once goes on like one that came about in steps."""
        self.average(self.held)

    @invariant()
    def every_tensor_is_the_exact_mean_with_its_weights(self) -> None:
        if not hasattr(self, "held"):
            return
        found = {name: (dtype, data) for name, (dtype, _, data) in contents(self.soup).items()}
        assert self.expected(self.held) == found

    @invariant()
    def the_ledger_has_its_weights_and_is_proven(self) -> None:
        if hasattr(self, "held"):
            ((_, ledger),) = verbs.history(self.soup)
            count = len(ledger.blocks)
            assert ledger.root == root(self.soup)
            for entry in ledger.ingredients:
                row = self.held[Path(entry.name).stem]
                assert row[0] == entry.weight
                assert row[1:] == (entry.weights.spread(count) or row[:1] * 2)
            (found,) = verbs.verify(self.soup)
            assert (None, Level.REBUILD) == (found.problem, found.level)

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()


class KeptBlockLife(BlockLife):
    """The same with a kept sum, when only ingredients whose weights change can be read."""

    keep_sum = True

    def revise(self, wanted: dict[str, Row], before: Path, *arguments: Any, **options: Any) -> None:
        named = str(arguments)
        same = [name for name in NAMES if self.held.get(name) == wanted.get(name)]
        unchanged = [name for name in same if str(self.path(name)) not in named]
        for name in unchanged:
            self.path(name).rename(self.folder / f"{name}.hidden")
        try:
            super().revise(wanted, before, *arguments, **options)
        finally:
            for name in unchanged:
                (self.folder / f"{name}.hidden").rename(self.path(name))

    @invariant()
    def its_sum_is_that_of_an_average(self) -> None:
        """The sum of a changed soup has no trace of what was in it."""
        if not hasattr(self, "held"):
            return
        (kept,) = self.folder.glob(f"{self.soup.name}.*.sum")
        names = list(self.held)
        default, *blocks = zip(*self.held.values(), strict=True)
        globs = ("left.*", "right.*")
        asked = BlockWeights(tuple(zip(globs, blocks, strict=True)), default)
        fresh = self.folder / "fresh.st"
        average(fresh, *map(self.path, names), blocks=asked, keep_sum=True, force=True)
        (made,) = self.folder.glob("fresh.st.*.sum")
        assert contents(made) == contents(kept)


class ChosenBlockLife(BlockLife):
    """The same with a kept sum, a tensor that is taken from a donor, and a padded convolution."""

    keep_sum = True

    def tensors(self, name: str, dtype: DType, data: bytes) -> dict[str, Raw]:
        shape = (2, self.width(name), 1, 1)
        part = data[: 2 * shape[1] * dtype.bits // 8]
        every = super().tensors(name, dtype, data)
        return {**every, "left.conv": (dtype.value, shape, part)}

    def width(self, name: str) -> int:
        """The input channels of its convolution."""
        return 3 if name in "ace" else 2

    def choices(self) -> dict[str, Any]:
        donor = self.path("donor")
        if not donor.exists():
            save_raw(donor, {"vae.w": ("F16", (2,), b"\1\2\3\4")})
        return {"take": (("vae.*", donor),), "pad": ("*conv",)}

    def expected(self, held: dict[str, Row]) -> dict[str, tuple[str, bytes]] | None:
        found = super().expected(held)
        if found is None:
            return None
        pairs = [(name, row[1]) for name, row in held.items() if row[1]]
        widest = max(map(self.width, held))
        total = sum(weight for _, weight in pairs)
        sums = [Fraction(0)] * (2 * widest)
        for name, weight in pairs:
            width, values = self.width(name), numbers(*self.found[name])
            for place in range(2 * width):
                spot = place // width * widest + place % width
                sums[spot] += values[place] * weight / total
        out = narrowest(frozenset(self.found[name][0] for name, _ in pairs))
        data = rounded(sums, out)
        if data is None:
            return None
        return found | {"left.conv": (out.value, data), "vae.w": ("F16", b"\1\2\3\4")}


class TestChosenBlockLife(ChosenBlockLife.TestCase):
    """Any sequence of changes gives one average with the same takes and padding."""

    settings = settings(max_examples=8, stateful_step_count=6, deadline=None, derandomize=True)


class TestKeptBlockLife(KeptBlockLife.TestCase):
    """Any sequence of changes with a sum gives the bytes of one average of what remains."""

    settings = settings(max_examples=8, stateful_step_count=6, deadline=None, derandomize=True)


class TestBlockLife(BlockLife.TestCase):
    """Any sequence of changes gives the bytes of one average of what remains."""

    settings = settings(max_examples=15, stateful_step_count=8, deadline=None, derandomize=True)
