"""Configs of mergekit make what the formulas of its linear methods say; others are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, mean, save

from soupctl import verbs
from soupctl.errors import InputError, UsageError
from soupctl.verbs import RecipeRun

NAMES = ("layers.0.self_attn.q.weight", "layers.0.mlp.up.weight", "embed.weight")


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> dict[str, dict[str, np.ndarray]]:
    """Checkpoints a, b and base in the working folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(7)
    found = {
        name: {each: generator.normal(0, 1, 9).astype(np.float16) for each in NAMES}
        for name in ("a", "b", "base")
    }
    for name, arrays in found.items():
        save(Path(f"{name}.st"), **arrays)
    return found


def run(text: str) -> dict[str, bytes]:
    Path("config.yml").write_text(text)
    verbs.run_recipe(RecipeRun("config.yml", "out.st"), force=True)
    return {name: data for name, (_, _, data) in contents(Path("out.st")).items()}


def exact(models, weights_of) -> dict[str, bytes]:
    """By tensor, the exact sum of the models with their weights, rounded once to float16."""
    found = {}
    for name in NAMES:
        weights = weights_of(name)
        arrays = [models[each][name] for each in weights]
        found[name] = mean(arrays, list(weights.values())).tobytes()
    return found


def test_linear_divides_by_the_sum_of_the_weights(models):
    made = run(
        "merge_method: linear\ndtype: float16\nmodels:\n"
        "  - model: a.st\n    parameters: {weight: 0.3}\n"
        "  - model: b.st\n    parameters: {weight: 0.1}\n"
    )

    assert exact(models, lambda name: {"a": Fraction(3), "b": Fraction(1)}) == made


def test_weights_differ_by_a_part_of_the_names(models):
    made = run(
        "merge_method: linear\nmodels:\n"
        "  - model: a.st\n    parameters:\n      weight:\n"
        "        - {filter: self_attn, value: 0.9}\n        - filter: mlp\n          value: 0\n"
        "        - value: 0.5\n"
        "  - {model: b.st, parameters: {weight: 0.5}}\n"
    )

    shares = {NAMES[0]: Fraction(9, 10), NAMES[1]: Fraction(0), NAMES[2]: Fraction(1, 2)}
    half = Fraction(1, 2)
    assert made == exact(
        models, lambda name: {k: w for k, w in (("a", shares[name]), ("b", half)) if w}
    )


@pytest.mark.parametrize(
    ("parameters", "factor"),
    [
        ("", Fraction(1)),
        ("parameters: {normalize: true}\n", Fraction(1) / Fraction("0.9")),
        ("parameters: {lambda: 0.5, int8_mask: true}\n", Fraction(1, 2)),
    ],
)
def test_task_arithmetic_adds_scaled_differences_to_the_base(models, parameters, factor):
    made = run(
        "merge_method: task_arithmetic\nbase_model: base.st\n" + parameters + "models:\n"
        "  - model: base.st\n"
        "  - {model: a.st, parameters: {weight: 1.2}}\n"
        "  - {model: b.st, parameters: {weight: -0.3}}\n"
    )

    a, b = Fraction("1.2") * factor, Fraction("-0.3") * factor
    assert exact(models, lambda name: {"base": 1 - a - b, "a": a, "b": b}) == made


def test_a_weight_of_all_models_stands_at_the_top(models):
    made = run(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a.st}, {model: b.st}]\n"
    )

    assert exact(models, lambda name: {"a": Fraction(1), "b": Fraction(1)}) == made


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("merge_method: ties\nmodels: [{model: a.st}]\n", "merge_method is 'ties'"),
        ("models: [{model: a.st}]\n", "merge_method is 'None'"),
        (
            "merge_method: linear\nslices: []\nmodels: [{model: a.st}]\n",
            "'slices' is not supported",
        ),
        ("merge_method: linear\nmodels: [{model: a.st}]\n", "'a.st' has no weight"),
        ("merge_method: task_arithmetic\nmodels: [{model: a.st}]\n", "base_model is missing"),
        (
            "merge_method: linear\nmodels: [{model: a.st, parameters: {weight: [0, 1]}}]\n",
            "list of values over layers",
        ),
        (
            "merge_method: linear\nmodels: [{model: a.st, parameters: {density: 1}}]\n",
            "'density' is not supported",
        ),
        (
            "merge_method: linear\nparameters: {normalize: no, weight: 2}\nmodels: [{model: a.st}]",
            "add up to 2",
        ),
        ("merge_method: linear\nmodels: [{model: a.st+lora, parameters: {weight: 1}}]\n", "LoRA"),
        ("merge_method: linear\ndtype: int4\nmodels: [{model: a.st}]\n", "no|not a float dtype"),
        ("[]\n", "not a mapping"),
    ],
)
def test_what_is_not_read_is_refused_by_name(text, what):
    with pytest.raises(UsageError, match=what):
        run(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n",
        "a: 1\na: 2\n",
        "a: 1\n---\na: 2\n",
        "[" * 5000,
        "a: !!python/object/apply:os.system [ls]\n- b",
        "\x00",
    ],
)
def test_what_is_no_plain_yaml_is_refused(text):
    with pytest.raises(InputError, match="is not valid YAML"):
        run(text)
    assert not Path("out.st").exists()
