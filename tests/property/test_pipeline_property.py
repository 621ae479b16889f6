"""Whatever pipelines are put in and taken out, each component is one average of what remains.

Rule 1: pipelines share components in part: two may have one VAE, and a third its own.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from making import save

from soupctl import verbs
from soupctl.errors import LedgerError, SoupError, UsageError
from soupctl.ledger.pipelines import pipeline_digest
from soupctl.verbs import Addition, Ingredient, LeaveOneOut, Removal, Request, Revision

NAMES = "abcdef"
COMPONENTS = ("unet", "vae")
FILE = "diffusion_pytorch_model.safetensors"
Held = dict[str, Fraction]

kinds = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1)),
    min_size=len(NAMES),
    max_size=len(NAMES),
    unique=True,
)
weights = st.sampled_from([Fraction(n, d) for n in (-1, 1, 2, 3) for d in (1, 2, 3)])
names = st.sampled_from(NAMES)


class PipelineLife(RuleBasedStateMachine):
    """A soup of pipelines, and beside it which it should hold."""

    keep_sum = False

    @initialize(found=kinds, first=names, second=names)
    def begin(self, found: list[tuple[int, int]], first: str, second: str) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.contents = dict(zip(NAMES, found, strict=True))
        self.step = 0
        for name, pair in zip(NAMES, found, strict=True):
            for component, kind in zip(COMPONENTS, pair, strict=True):
                value = np.random.default_rng([kind, len(component)]).normal(0, 1, 3)
                kept = np.float16 if kind % 2 else np.float32
                save(self.path(name) / component / FILE, w=value.astype(kept))
            index = {each: ["diffusers", each] for each in COMPONENTS}
            (self.path(name) / "model_index.json").write_text(json.dumps(index))
        self.held: Held = dict.fromkeys((first, second), Fraction(1))
        assert self.average(self.held, self.soup, keep_sum=self.keep_sum)

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def soup(self) -> Path:
        return self.folder / f"soup-{self.step}"

    def average(self, held: Held, output: Path, **options: Any) -> tuple[str, ...] | None:
        """The roots of one average; None if it is refused, as where weights cancel."""
        pairs = [Ingredient(self.path(name), weight) for name, weight in held.items()]
        shutil.rmtree(output, ignore_errors=True)
        try:
            made = verbs.average(Request(pairs, output, **options))
        except UsageError:
            return None
        return tuple(each.ledger.root for each in made)

    def change(self, wanted: Held, operation: str = "change", **options: Any) -> None:
        """Make the next soup, or see that it is refused where one average of it would be."""
        left = {name: weight for name, weight in wanted.items() if weight}
        expected = self.average(left, self.folder / "direct") if left else None
        if self.cancels(wanted):
            expected = None
        output = self.folder / f"soup-{self.step + 1}"
        revision = Revision(operation, self.soup, output, **options)
        if expected is None:
            with pytest.raises((LedgerError, UsageError)):
                verbs.revise(revision)
            assert not output.exists()
            return
        made = verbs.revise(revision)
        assert expected == tuple(each.ledger.root for each in made)
        assert all(each.ledger.exact for each in made)
        self.held = left
        self.step += 1

    def cancels(self, wanted: Held) -> bool:
        """Whether weights of one content cancel, which no soup is made of."""
        return any(
            not sum(wanted[name] for name in wanted if self.contents[name][place] == kind)
            for place in range(len(COMPONENTS))
            for kind in {self.contents[name][place] for name in wanted}
        )

    @rule(name=names, weight=st.none() | weights)
    def add(self, name: str, weight: Fraction | None) -> None:
        more = {"added": [Addition(self.path(name), weight)]}
        if name in self.held:
            with pytest.raises(LedgerError, match="already"):
                verbs.revise(Revision("add", self.soup, self.folder / "refused", **more))
        total = self.held.get(name, Fraction(0)) + (1 if weight is None else weight)
        self.change(self.held | {name: total}, again=name in self.held, **more)

    @rule(chosen=st.dictionaries(names, weights, min_size=1, max_size=3))
    def add_a_soup(self, chosen: Held) -> None:
        other = self.folder / "other"
        for old in self.folder.glob("other.*.sum"):
            shutil.rmtree(old)
        if self.average(chosen, other, keep_sum=self.keep_sum) is None:
            return
        wanted = dict(self.held)
        for name, weight in chosen.items():
            wanted[name] = wanted.get(name, Fraction(0)) + weight
        self.change(wanted, added=[Addition(other)], again=True)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), by=st.sampled_from(("path", "name", "digest")))
    def subtract(self, data: st.DataObject, by: str) -> None:
        some = st.lists(st.sampled_from(sorted(self.held)), min_size=1, max_size=3, unique=True)
        chosen = data.draw(some)
        removed = [Removal(self.named(name, by)) for name in chosen]
        wanted = {name: self.held[name] for name in self.held if name not in chosen}
        self.change(wanted, "subtract", removed=removed)

    @rule(data=st.data(), part=st.sampled_from((Fraction(1, 3), Fraction(1, 2))))
    def subtract_a_part(self, data: st.DataObject, part: Fraction) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        taken = self.held[name] * part
        wanted = self.held | {name: self.held[name] - taken}
        self.change(wanted, "subtract", removed=[Removal(self.called(name), taken)])

    @rule(data=st.data(), new=names)
    def swap(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.held)))
        wanted = dict(self.held)
        weight = wanted.pop(old)
        wanted[new] = wanted.get(new, Fraction(0)) + weight
        more = {"added": [Addition(self.path(new))], "removed": [Removal(str(self.path(old)))]}
        self.change(wanted, "swap", again=new in self.held, **more)

    @rule()
    def leave_each_out(self) -> None:
        pattern = str(self.folder / "without-{name}")
        expected = {
            name: self.average(
                {each: weight for each, weight in self.held.items() if each != name},
                self.folder / "direct",
            )
            for name in self.held
        }
        family = LeaveOneOut(self.soup, pattern)
        if None in expected.values() or len(self.held) == 1:
            with pytest.raises(SoupError):
                verbs.leave_one_out(family, force=True)
            return
        made = verbs.leave_one_out(family, force=True)
        assert expected == {
            Path(name).name: tuple(each.ledger.root for each in parts)
            for name, parts in made.items()
        }

    @rule(name=names)
    def refuse(self, name: str) -> None:
        """What is not in the soup is not removed, though it shares components with what is."""
        if name not in self.held:
            for by in ("path", "name", "digest"):
                self.change({}, "subtract", removed=[Removal(self.named(name, by))])

    def named(self, name: str, by: str) -> str:
        if by == "name":
            return self.called(name)
        if by == "path":
            return str(self.path(name))
        digests = (each.digest for each in verbs.content_digests(self.path(name)))
        return pipeline_digest(dict(zip(COMPONENTS, digests, strict=True)))

    def called(self, name: str) -> str:
        """The name in the ledger, which is longer where one before was as short."""
        (_, ledger), *_ = verbs.history(self.soup)
        called = [share.name for entry in ledger.ingredients for share in entry.pipelines]
        return next((each for each in called if Path(each).name == name), name)

    @invariant()
    def every_component_says_how_much_of_it_is_whose(self) -> None:
        if not hasattr(self, "held"):
            return
        for _, ledger in verbs.history(self.soup):
            found = {
                Path(share.name).name: share.weight
                for entry in ledger.ingredients
                for share in entry.pipelines
            }
            assert self.held == found
            assert all(
                entry.weight == sum(share.weight for share in entry.pipelines)
                for entry in ledger.ingredients
            )

    @invariant()
    def the_soup_is_proven_from_where_it_lies(self) -> None:
        if hasattr(self, "held"):
            found = verbs.verify(self.soup)
            assert [None, None] == [each.problem for each in found]

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()


class KeptPipelineLife(PipelineLife):
    """The same with a sum beside each soup."""

    keep_sum = True


@pytest.mark.timeout(900)
class TestPipelineLife(PipelineLife.TestCase):
    """Any sequence of changes gives the tensors of one average of what remains."""

    settings = settings(max_examples=6, stateful_step_count=10, deadline=None, derandomize=True)


@pytest.mark.timeout(900)
class TestKeptPipelineLife(KeptPipelineLife.TestCase):
    """The same from kept sums."""

    settings = settings(max_examples=6, stateful_step_count=10, deadline=None, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestLongPipelineLife(PipelineLife.TestCase):
    """The same for long."""

    settings = settings(max_examples=2, stateful_step_count=50, deadline=None, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestLongKeptPipelineLife(KeptPipelineLife.TestCase):
    """The same for long, from kept sums."""

    settings = settings(max_examples=2, stateful_step_count=50, deadline=None, derandomize=True)
