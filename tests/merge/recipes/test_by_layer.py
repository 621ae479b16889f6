"""Configs of mergekit with values over the layers make what its formulas say, rounded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deltas import rounded
from making import save
from mergekit_configs import run
from revising import assert_proven, revise

from soupctl import verbs
from soupctl.errors import UsageError
from soupctl.format.dtypes import DType

COUNT = 4
LAYERS = [
    f"model.layers.{n}.{part}"
    for n in range(COUNT)
    for part in ("self_attn.q_proj.weight", "mlp.up_proj.weight", "input_layernorm.weight")
]
BEFORE, AFTER = "model.embed_tokens.weight", ("model.norm.weight", "lm_head.weight")
NAMES = (BEFORE, *LAYERS, *AFTER)
Weights = Callable[[str], Sequence[Fraction]]


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> dict[str, dict[str, np.ndarray]]:
    """Checkpoints a, b and c of four layers in the working folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(17)
    found = {
        name: {each: generator.normal(0, 1, 5).astype(np.float16) for each in NAMES}
        for name in "abc"
    }
    for name, arrays in found.items():
        save(Path(f"{name}.st"), **arrays)
    return found


def exact(models: dict[str, dict[str, np.ndarray]], weights_of: Weights) -> dict[str, bytes | None]:
    """The sum of the first models with their weights by tensor, rounded once to float16."""
    found = {}
    for name in NAMES:
        pairs = list(zip(weights_of(name), models.values(), strict=False))
        sums = (sum(w * Fraction(float(m[name][n])) for w, m in pairs) for n in range(5))
        found[name] = rounded([Fraction(each) for each in sums], DType.F16)
    return found


def layer(name: str) -> int | None:
    return int(name.split(".")[2]) if name in LAYERS else None


def at(values: Sequence[str], t: Fraction) -> Fraction:
    """mergekit's interpolation (config.py, evaluate_setting)."""
    numbers = list(map(Fraction, values))
    scaled = t * (len(numbers) - 1)
    low = int(scaled)
    part = scaled - low
    return (1 - part) * numbers[low] + part * numbers[min(len(numbers) - 1, low + 1)]


def place(name: str, start: int = 0, stop: int = COUNT) -> Fraction:
    """mergekit's t of a tensor in a slice (plan.py): by layer, and 0 and 1 outside of them."""
    number = layer(name)
    if number is None:
        return Fraction(int(name != BEFORE))
    return Fraction(number - start, stop - start - 1) if stop - start > 1 else Fraction(1)


def share(weights: Sequence[Fraction]) -> list[Fraction]:
    return [weight / sum(weights) for weight in weights]


def test_a_list_of_values_is_interpolated_over_the_layers(models):
    made = run(
        "merge_method: linear\nmodels:\n"
        "  - {model: a.st, parameters: {weight: [0.1, 0.7, 0.3]}}\n"
        "  - {model: b.st, parameters: {weight: 0.5}}\n"
    )

    one = ("0.1", "0.7", "0.3")
    assert made == exact(models, lambda name: share([at(one, place(name)), Fraction(1, 2)]))
    assert_proven("out.st")
    ((_, ledger),) = verbs.history("out.st")
    assert "model.layers.1.*" in ledger.blocks


def test_lists_and_filters_go_together_and_leave_tensors_to_the_next_setting(models):
    made = run(
        "merge_method: linear\nparameters: {normalize: false, weight: 0.25}\nmodels:\n"
        "  - model: a.st\n    parameters:\n      weight:\n"
        "        - {filter: self_attn, value: [0, 1]}\n        - {filter: mlp, value: 0.5}\n"
        '        - {filter: "*", value: [1, 0.2, 0.4]}\n'
        "  - model: b.st\n    parameters: {weight: [{filter: mlp, value: [0.9, 0.1]}]}\n"
    )

    def weights(name: str) -> tuple[Fraction, Fraction]:
        t = place(name)
        if "self_attn" in name:
            return at(("0", "1"), t), Fraction(1, 4)
        if "mlp" in name:
            return Fraction(1, 2), at(("0.9", "0.1"), t)
        return at(("1", "0.2", "0.4"), t), Fraction(1, 4)

    assert made == exact(models, weights)
    assert_proven("out.st")


SLICES = (
    "slices:\n"
    "  - sources:\n"
    "      - {model: a.st, layer_range: [0, 1], parameters: {weight: [0.2, 0.6]}}\n"
    "      - {model: b.st, layer_range: [0, 1]}\n"
    "    parameters: {weight: 0.4}\n"
    "  - sources:\n"
    "      - {model: b.st, layer_range: [1, 4], parameters: {weight: [0.5, 1]}}\n"
    "      - {model: c.st, layer_range: [1, 4], parameters: {weight: 3}}\n"
)


def by_slice(name: str) -> list[Fraction]:
    """The weights of a, b and c in these slices."""
    if name == BEFORE or layer(name) == 0:
        t = place(name, 0, 1)
        return [at(("0.2", "0.6"), t), Fraction(2, 5), Fraction(0)]
    return [Fraction(0), at(("0.5", "1"), place(name, 1, 4)), Fraction(3)]


def test_slices_that_follow_each_other_have_weights_of_their_own(models):
    made = run("merge_method: linear\n" + SLICES)

    assert made == exact(models, lambda name: share(by_slice(name)))
    assert_proven("out.st")
    revise("subtract", "out.st", Path("left.st"), (), ["a.st"])
    assert_proven("left.st")


def test_scales_of_differences_are_by_layer_too(models):
    made = run(
        "merge_method: task_arithmetic\nbase_model: c.st\n"
        "parameters: {lambda: 0.5, normalize: true}\nmodels:\n  - model: c.st\n"
        "  - {model: a.st, parameters: {weight: [0.1, 0.9]}}\n"
        "  - {model: b.st, parameters: {weight: 1}}\n"
    )

    def weights(name: str) -> tuple[Fraction, ...]:
        both = [each / 2 for each in share([at(("0.1", "0.9"), place(name)), Fraction(1)])]
        return (*both, 1 - sum(both))

    assert made == exact(models, weights)
    assert_proven("out.st")


def linear(*ranges: str) -> str:
    """A config with a slice for each text of the layer ranges of a and b."""
    text = "merge_method: linear\nparameters: {weight: 1}\nslices:\n"
    for each in ranges:
        one, other = each.split(" ")
        text += f"  - sources: [{{model: a.st, layer_range: [{one}]}}, "
        text += f"{{model: b.st, layer_range: [{other}]}}]\n"
    return text


@pytest.mark.parametrize(
    ("ranges", "what"),
    [
        (["0,4 0,3"], "slice 1: has other layers than those from 0 on in all"),
        (["1,4 1,4"], "slice 1: has other layers than those from 0 on"),
        (["0,2 0,2", "1,4 1,4"], "slice 2: has other layers than those from 2 on"),
        (["0,2 0,2", "3,4 3,4"], "slice 2: has other layers than those from 2 on"),
        (["0,2 0,2"], "the slices have 2 layers, and the models have 4"),
        (["0,2 0,2", "2,9 2,9"], "the slices have 9 layers, and the models have 4"),
        (["0 0,4"], "layer_range is not two whole numbers"),
        (["0,-4 0,-4"], "layer_range is not two whole numbers"),
        ([f"0,{'9' * 5000} 0,4"], "layer_range is not two whole numbers"),
        (["2,2 2,2"], r"layer_range \[2, 2\] has no layers"),
    ],
)
def test_slices_that_repeat_or_drop_layers_are_refused(ranges, what):
    with pytest.raises(UsageError, match=what):
        run(linear(*ranges))
    assert not Path("out.st").exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (f"model.layers.{'9' * 5000}.mlp.weight", "is not known to be before or after"),
        ("model.layers.9.mlp.weight", "are not numbered from 0 without a gap"),
        ("vision.blocks.0.mlp.weight", "the models have model.layers, vision.blocks"),
        ("model.unheard.weight", "model.unheard.weight: is not known to be before or after"),
    ],
)
def test_layers_that_cannot_be_told_are_refused_with_the_way_out(models, name, what):
    for each in "ab":
        save(Path(f"{each}.st"), **models[each], **{name: np.ones(3, np.float16)})
    text = "merge_method: linear\nmodels:\n  - {model: b.st, parameters: {weight: 1}}\n"
    with pytest.raises(UsageError, match=f"{what}.*a filter with one value"):
        run(text + "  - {model: a.st, parameters: {weight: [0.1, 0.7]}}\n")

    filters = "[{filter: unheard, value: 1}, {value: [0.1, 0.7]}]"
    if "unheard" in name:
        run(text + f"  - {{model: a.st, parameters: {{weight: {filters}}}}}\n")
        assert_proven("out.st")
