"""Whatever deltas are put in and taken out, a soup has the bytes of the base and what remains.

The same holds if its sum is kept, and only what changes can be read.
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from deltas import apply, delta, floats, numbers, rounded, save_one
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from keeping import sum_of
from making import contents
from revising import revise, root

from soupctl import verbs
from soupctl.errors import LedgerError, MismatchError
from soupctl.format.dtypes import DType, narrowest
from soupctl.verbs import ExecutionOptions, Level

pytestmark = pytest.mark.timeout(900)

SIZE = 12
DTYPES = (DType.F16, DType.BF16, DType.F32)
NAMES = "abcd"

scales = st.sampled_from([Fraction(n, d) for n in (1, -1, 2, -3) for d in (1, 2, 5)])
names = st.sampled_from(NAMES)
paces = st.builds(ExecutionOptions, st.integers(1, 3), st.sampled_from((None, 1, 5)))


def half(dtype: DType, seed: object) -> bytes:
    """Floats whose sums with a few others are within the range of their dtype."""
    values = [value / 64 for value in numbers(dtype, floats(dtype, SIZE, seed))]
    found = rounded(values, dtype)
    assert found is not None
    return found


class AppliedLife(RuleBasedStateMachine):
    """A base with deltas, and beside it what it should hold."""

    keep_sum = False

    @initialize(seed=st.integers(0, 999), kinds=st.lists(st.sampled_from(DTYPES), min_size=5))
    def begin(self, seed: int, kinds: list[DType]) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        (self.folder / "deep").mkdir()
        self.dtypes = dict(zip(("base", *NAMES), kinds, strict=False))
        self.data = {name: half(dtype, (seed, name)) for name, dtype in self.dtypes.items()}
        for name, dtype in self.dtypes.items():
            save_one(self.path(name), dtype, self.data[name])
        for name in NAMES:
            delta(self.path(name), self.path("base"), self.delta(name))
        self.held = {"a": Fraction(1)}
        self.step = 0
        options = {"output": str(self.soup), "keep_sum": self.keep_sum}
        apply(self.path("base"), self.delta("a"), **options)

    def path(self, name: str) -> str:
        return str(self.folder / "in" / f"{name}.st")

    def delta(self, name: str) -> str:
        return str(self.folder / "in" / f"{name}.delta")

    @property
    def soup(self) -> Path:
        # every other place lies deeper, so that hints change
        return self.folder / ("deep" if self.step % 2 else "") / f"{self.step}.st"

    def change(self, wanted: dict[str, Fraction], *arguments: object, **options: object) -> None:
        """Make the next soup, if its values are within the range of its dtype."""
        before = self.soup
        self.step += 1
        try:
            self.revise(wanted, before, *arguments, **options)
        except MismatchError:
            self.step -= 1
            assert self.expected(wanted) is None
            return
        self.held = {name: scale for name, scale in wanted.items() if scale}

    def revise(
        self, wanted: dict[str, Fraction], before: Path, *arguments: object, **options: object
    ) -> None:
        revise("change", before, self.soup, *arguments, **options)

    def expected(self, held: dict[str, Fraction]) -> tuple[str, bytes] | None:
        """The dtype and bytes of the exact sum; None if they are out of range."""
        if [*held.values()] == [1]:
            (name,) = held
            return self.dtypes[name].value, self.data[name]
        out = narrowest(frozenset(self.dtypes[name] for name in ("base", *held)))
        base = numbers(self.dtypes["base"], self.data["base"])
        total = list(base)
        for name, scale in held.items():
            fine = numbers(self.dtypes[name], self.data[name])
            total = [t + scale * (f - b) for t, f, b in zip(total, fine, base, strict=True)]
        found = rounded(total, out)
        return None if found is None else (out.value, found)

    @rule(name=names, scale=scales, execution=paces)
    def add(self, name: str, scale: Fraction, execution: ExecutionOptions) -> None:
        total = self.held.get(name, Fraction(0)) + scale
        if total:
            again = name in self.held
            new = [(self.delta(name), scale)]
            self.change(self.held | {name: total}, new, again=again, execution=execution)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), by=st.sampled_from(("path", "name", "digest")), execution=paces)
    def subtract(self, data: st.DataObject, by: str, execution: ExecutionOptions) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        digest = root(self.delta(name))
        (entry,) = verbs.holds(self.soup, digest) or ()
        ways = {"path": self.delta(name), "name": entry.name, "digest": digest}
        wanted = {each: scale for each, scale in self.held.items() if each != name}
        self.change(wanted, (), [ways[by]], execution=execution)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def subtract_a_part(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        left = self.held[name] / 2
        self.change(self.held | {name: left}, (), [(self.delta(name), left)])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), new=names)
    def swap(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.held)))
        if new not in self.held:
            wanted = dict(self.held)
            wanted[new] = wanted.pop(old)
            self.change(wanted, [(self.delta(new), wanted[new])], [self.delta(old)])

    @rule(name=names)
    def refuse(self, name: str) -> None:
        with pytest.raises(LedgerError):
            revise("change", self.soup, self.folder / "x.st", (), [self.path("base")])
        with pytest.raises(MismatchError):
            revise("change", self.soup, self.folder / "x.st", [self.path(name)])
        if name not in self.held:
            with pytest.raises(LedgerError):
                revise("change", self.soup, self.folder / "x.st", (), [self.delta(name)])
        assert not (self.folder / "x.st").exists()

    @invariant()
    def the_soup_is_the_exact_sum_of_what_remains(self) -> None:
        if not hasattr(self, "held"):
            return
        dtype, _, data = contents(self.soup)["w"]
        assert self.expected(self.held) == (dtype, data)
        ((_, ledger),) = verbs.history(self.soup)
        entries = {Path(entry.name).stem: entry.weight for entry in ledger.ingredients}
        assert {**self.held, "base": 1} == entries
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


class TestAppliedLife(AppliedLife.TestCase):
    """Any sequence of changes gives the bytes of the base and the deltas that remain."""

    settings = settings(max_examples=8, stateful_step_count=8, deadline=None, derandomize=True)


class KeptAppliedLife(AppliedLife):
    """The same with a kept sum, while neither the base nor a delta that stays can be read."""

    keep_sum = True

    def revise(
        self, wanted: dict[str, Fraction], before: Path, *arguments: object, **options: object
    ) -> None:
        stays = [name for name, scale in self.held.items() if wanted.get(name) == scale]
        unchanged = [Path(self.path("base")), *(Path(self.delta(name)) for name in stays)]
        for path in unchanged:
            path.rename(path.with_suffix(".hidden"))
        try:
            revise("change", before, self.soup, *arguments, **options)
            is_made = True
        except LedgerError:
            # FINE comes of a single delta of scale 1, whose signs of zeros no sum has
            assert [scale for scale in wanted.values() if scale] == [1]
            is_made = False
        finally:
            for path in unchanged:
                path.with_suffix(".hidden").rename(path)
        if not is_made:
            revise("change", before, self.soup, *arguments, **options)

    @rule()
    def begin_again_from_what_remains(self) -> None:
        """A sum that was made at once is that which came about in steps."""
        if self.held:
            made = str(self.folder / "again.st")
            for old in self.folder.glob("again.st*"):
                old.unlink()
            held = [(self.delta(name), scale) for name, scale in self.held.items()]
            apply(self.path("base"), *held, output=made, keep_sum=True)
            assert root(sum_of(Path(made))) == root(sum_of(self.soup))

    @invariant()
    def the_sum_lies_beside_the_soup_alone(self) -> None:
        if hasattr(self, "held"):
            expected = f"{self.soup.name}.{root(self.soup)[7:19]}.sum"
            assert expected == sum_of(self.soup).name


class TestKeptAppliedLife(KeptAppliedLife.TestCase):
    """Kept sums give the bytes that the base and the deltas give, without reading them."""

    settings = settings(max_examples=6, stateful_step_count=8, deadline=None, derandomize=True)
