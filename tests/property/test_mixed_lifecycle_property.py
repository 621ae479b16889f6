"""A mean of models with deltas and LoRAs, all with weights by block, is exact after any changes.

The VAE is taken from a model that gives nothing else.
"""

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

MODELS, DONOR, FINE, LORAS = "abc", "v", "d", "lm"
LAYERS, VAE = ("left.to_q", "right.to_q"), "vae.to_q"
BLOCKS = ("left.*", "vae.*")
Row = tuple[Fraction, Fraction, Fraction]
"""A weight or scale in tensors of no block, and in the blocks."""
ZERO, ONE = Fraction(0), Fraction(1)

Pair = tuple[Fraction, Fraction]

weights = st.sampled_from([Fraction(1), Fraction(2), Fraction(1, 3)])
scales = st.sampled_from([Fraction(n, d) for n in (1, -1, 3) for d in (1, 5)])
models = st.sampled_from(MODELS)
added = st.sampled_from(FINE + LORAS)


class MixedLife(RuleBasedStateMachine):
    """A soup that a recipe makes, and beside it what it should hold.

    Rule 1: adding a model gives it a weight in the VAE, too.
    """

    keep_sum = False

    @initialize(
        seed=st.integers(0, 999),
        dtype=st.sampled_from((DType.F16, DType.BF16, DType.F32)),
        row=st.tuples(weights, weights),
        scale=st.tuples(scales, scales | st.just(Fraction(0))),
    )
    def begin(self, seed: int, dtype: DType, row: Pair, scale: Pair) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.random = np.random.default_rng(seed)
        self.dtype, self.step = dtype, 0
        self.values: dict[str, dict[str, list[Fraction]]] = {}
        for name in MODELS + FINE + DONOR:
            self.save_model(name)
        for name in LORAS:
            self.save_lora(name)
        delta(str(self.folder / "d.st"), self.path("a"), self.path(FINE))
        self.models: dict[str, Row] = {"a": (ONE, ONE, ZERO), "b": (*row, ZERO)}
        self.added: dict[str, Row] = {"d": (*scale, ZERO), "l": (ONE, ONE, ZERO)}
        self.run(self.soup, is_taken=True)
        # the ledger has the models' shares
        self.models[DONOR] = (ZERO, ZERO, ONE)
        totals = [sum(column) for column in zip(*self.models.values(), strict=True)]
        for name, each in self.models.items():
            usual, left, vae = (w / total for w, total in zip(each, totals, strict=True))
            self.models[name] = (usual, left, vae)

    def save_model(self, name: str) -> None:
        tensors, self.values[name] = {}, {}
        for layer in (*LAYERS, VAE):
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
        self.values[name][VAE] = [ZERO] * 4
        save(Path(self.path(name)), **arrays)

    def path(self, name: str) -> str:
        return str(self.folder / (f"{name}.delta" if name in FINE else f"{name}.st"))

    @property
    def soup(self) -> Path:
        return self.folder / f"soup-{self.step}.st"

    def run(self, output: Path, *, is_taken: bool = False) -> None:
        """Make a soup at once, with a recipe; the VAE may be taken in a step of its own."""
        rows = {**self.models, **self.added, **({DONOR: ()} if is_taken else {})}
        inputs = "".join(f'{name} = "{self.path(name)}"\n' for name in rows)

        def step(key: str, other: str, held: dict[str, Row]) -> str:
            usual, *blocks = ([str(row[n]) for row in held.values()] for n in range(3))
            globs = BLOCKS[:1] if is_taken else BLOCKS
            pairs = ", ".join(
                f'"{glob}" = {each}' for glob, each in zip(globs, blocks, strict=False)
            )
            return f"{key} = {[*held]}\n{other} = {usual}\nblocks = {{ {pairs} }}\n"

        text = f"other-base = true\n[inputs]\n{inputs}"
        text += "[steps.mean]\n" + step("average", "weights", self.models)
        text += '[steps.out]\nbase = "mean"\n' + step("add", "scales", self.added)
        if is_taken:
            text += f'[steps.result]\nfrom = "out"\ntake = {{ "vae.*" = "{DONOR}" }}\n'
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
        usual, left, vae = held.get(name, (ZERO, ZERO, ZERO))
        row = (usual + weight, left + weight, vae + weight)
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

    @precondition(lambda self: len(self.models) > 3)
    @rule(data=st.data())
    def subtract_a_model(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted({*self.models} - {DONOR})))
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
        for layer in (*LAYERS, VAE):
            place = {"left.to_q": 1, VAE: 2}.get(layer, 0)
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
        if any(f"{self.folder / name}.st" in f"{arguments}" for name in MODELS + DONOR):
            stays = [name for name in stays if name in MODELS + DONOR]
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
