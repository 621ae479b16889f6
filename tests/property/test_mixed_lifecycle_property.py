"""A mean of models with deltas and LoRAs, all with weights by block, is exact after any changes."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from deltas import delta, numbers, rounded
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from keeping import sum_of
from making import contents, save, save_raw
from revising import revise, root

from soupctl import verbs
from soupctl.format.dtypes import DType
from soupctl.verbs import Level

MODELS, FINE, LORAS = "abc", "d", "lm"
LAYERS = ("left.to_q", "right.to_q")
Row = tuple[Fraction, Fraction]
"""A weight or scale in tensors of no block, and in the block."""

weights = st.sampled_from([Fraction(1), Fraction(2), Fraction(1, 3)])
scales = st.sampled_from([Fraction(n, d) for n in (1, -1, 3) for d in (1, 5)])
models = st.sampled_from(MODELS)
added = st.sampled_from(FINE + LORAS)


class MixedLife(RuleBasedStateMachine):
    """A soup that a recipe makes, and beside it what it should hold."""

    keep_sum = False

    @initialize(
        seed=st.integers(0, 999),
        dtype=st.sampled_from((DType.F16, DType.BF16, DType.F32)),
        row=st.tuples(weights, weights),
        scale=st.tuples(scales, scales | st.just(Fraction(0))),
    )
    def begin(self, seed: int, dtype: DType, row: Row, scale: Row) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.random = np.random.default_rng(seed)
        self.dtype, self.step = dtype, 0
        self.values: dict[str, dict[str, list[Fraction]]] = {}
        for name in MODELS + FINE:
            self.save_model(name)
        for name in LORAS:
            self.save_lora(name)
        delta(str(self.folder / "d.st"), self.path("a"), self.path(FINE))
        ones = (Fraction(1), Fraction(1))
        self.models: dict[str, Row] = {"a": ones, "b": row}
        self.added: dict[str, Row] = {"d": scale, "l": ones}
        self.run(self.soup)
        # the ledger has the models' shares
        totals = [sum(column) for column in zip(*self.models.values(), strict=True)]
        for name, each in self.models.items():
            self.models[name] = (each[0] / totals[0], each[1] / totals[1])

    def save_model(self, name: str) -> None:
        tensors, self.values[name] = {}, {}
        for layer in LAYERS:
            drawn = [Fraction(int(n), 1024) for n in self.random.integers(1, 2**11, 4)]
            data = rounded(drawn, self.dtype)
            assert data is not None
            tensors[f"{layer}.weight"] = (self.dtype.value, (2, 2), data)
            self.values[name][layer] = numbers(self.dtype, data)
        save_raw(self.folder / f"{name}.st", tensors)

    def save_lora(self, name: str) -> None:
        arrays, self.values[name] = {}, {}
        # of the scales of updates, only those of one adapter are fractions
        rank = 3 if name == "m" else 1
        for layer in LAYERS:
            up, down = self.random.integers(-9, 9, (2, 2, rank))
            arrays[f"{layer}.lora_B.weight"] = (up / 16).astype(np.float16)
            arrays[f"{layer}.lora_A.weight"] = (down.T / 16).astype(np.float16, "C")
            arrays[f"{layer}.alpha"] = np.float32(1)
            update = up @ down.T
            self.values[name][layer] = [Fraction(int(n), 256 * rank) for n in update.reshape(-1)]
        save(Path(self.path(name)), **arrays)

    def path(self, name: str) -> str:
        return str(self.folder / (f"{name}.delta" if name in FINE else f"{name}.st"))

    @property
    def soup(self) -> Path:
        return self.folder / f"soup-{self.step}.st"

    def run(self, output: Path) -> None:
        """Make a soup at once, with a recipe."""
        rows = {**self.models, **self.added}
        inputs = "".join(f'{name} = "{self.path(name)}"\n' for name in rows)

        def step(key: str, other: str, held: dict[str, Row]) -> str:
            usual, left = ([str(row[n]) for row in held.values()] for n in (0, 1))
            return f'{key} = {[*held]}\n{other} = {usual}\nblocks = {{ "left.*" = {left} }}\n'

        text = f"other-base = true\n[inputs]\n{inputs}"
        text += "[steps.mean]\n" + step("average", "weights", self.models)
        text += '[steps.out]\nbase = "mean"\n' + step("add", "scales", self.added)
        recipe = self.folder / "r.toml"
        recipe.write_text(text)
        asked = verbs.RecipeRun(recipe, output, keep_sum=self.keep_sum)
        verbs.run_recipe(asked, force=True)

    def change(self, added: list[object], removed: list[object], **options: object) -> None:
        before = self.soup
        self.step += 1
        self.revise("change", before, added, removed, **options)

    def revise(self, operation: str, before: Path, *arguments: object, **options: object) -> None:
        revise(operation, before, self.soup, *arguments, **options)

    def more(self, held: dict[str, Row], name: str, weight: Fraction) -> bool:
        """Add a weight, unless none would be left somewhere."""
        old = held.get(name, (Fraction(0), Fraction(0)))
        row = (old[0] + weight, old[1] + weight)
        if not any(row) or (name == FINE and "a" not in self.models):
            return False
        self.change([(self.path(name), weight)], [], again=name in held)
        held[name] = row
        return True

    @rule(name=models, weight=weights)
    def add_a_model(self, name: str, weight: Fraction) -> None:
        self.more(self.models, name, weight)

    @rule(name=added, scale=scales)
    def add_a_delta_or_a_lora(self, name: str, scale: Fraction) -> None:
        self.more(self.added, name, scale)

    @precondition(lambda self: len(self.models) > 2)
    @rule(data=st.data())
    def subtract_a_model(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        self.change([], [self.path(name)])
        del self.models[name]

    @precondition(lambda self: len(self.added) > 1)
    @rule(data=st.data())
    def subtract_a_delta_or_a_lora(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.added)))
        self.change([], [self.path(name)])
        del self.added[name]

    @rule(data=st.data(), new=added)
    def swap_deltas_and_loras(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.added)))
        if new not in self.added and (new != FINE or "a" in self.models):
            before = self.soup
            self.step += 1
            self.revise("swap", before, [self.path(new)], [self.path(old)])
            self.added[new] = self.added.pop(old)

    @rule()
    def begin_again_from_what_remains(self) -> None:
        """A soup that was made at once has the same tensors."""
        made = self.soup.with_name("again.st")
        self.run(made)
        assert root(self.soup) == root(made)

    @invariant()
    def every_tensor_is_the_exact_mean_and_what_is_added(self) -> None:
        if not hasattr(self, "models"):
            return
        found = contents(self.soup)
        for layer in LAYERS:
            place = int(layer.startswith("left"))
            total = sum(row[place] for row in self.models.values())
            rows = [(row[place] / total, self.values[n][layer]) for n, row in self.models.items()]
            for name, row in self.added.items():
                update = self.values[name][layer]
                if name == FINE:
                    base = self.values["a"][layer]
                    update = [x - y for x, y in zip(update, base, strict=True)]
                rows.append((row[place], update))
            exact = [sum(w * each[n] for w, each in rows) for n in range(4)]
            dtype, shape, data = found[f"{layer}.weight"]
            assert (self.dtype.value, (2, 2)) == (dtype, shape)
            assert rounded(exact, self.dtype) == data

    @invariant()
    def the_soup_is_proven(self) -> None:
        if hasattr(self, "models"):
            (found,) = verbs.verify(self.soup)
            assert (None, Level.REBUILD) == (found.problem, found.level)

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()


class TestMixedLife(MixedLife.TestCase):
    """Any sequence of changes gives the exact mean of the models, and all that is added."""

    settings = settings(max_examples=6, stateful_step_count=7, deadline=None, derandomize=True)


class KeptMixedLife(MixedLife):
    """The same with a kept sum, while no model that stays can be read.

    Deltas and LoRAs that stay are read only if a model goes or comes.
    """

    keep_sum = True

    def revise(self, operation: str, before: Path, *arguments: object, **options: object) -> None:
        stays = [
            name for name in (*self.models, *self.added) if self.path(name) not in f"{arguments}"
        ]
        if any(f"{self.folder / name}.st" in f"{arguments}" for name in MODELS):
            stays = [name for name in stays if name in MODELS]
        places = [Path(self.path(name)) for name in stays]
        for place in places:
            place.rename(place.with_suffix(".hidden"))
        try:
            super().revise(operation, before, *arguments, **options)
        finally:
            for place in places:
                place.with_suffix(".hidden").rename(place)

    @rule()
    def begin_again_from_what_remains(self) -> None:
        """A soup that was made at once has the same tensors, and the same sum."""
        super().begin_again_from_what_remains()
        made = self.soup.with_name("again.st")
        assert root(sum_of(self.soup)) == root(sum_of(made))


class TestKeptMixedLife(KeptMixedLife.TestCase):
    """Kept sums give the bytes that the models and all that is added give."""

    settings = settings(max_examples=6, stateful_step_count=7, deadline=None, derandomize=True)
