"""Configs of mergekit make what the formulas of its linear methods say; others are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deltas import rounded
from making import contents, mean, save
from mergekit_configs import run
from revising import assert_proven, average, revise

from soupctl import verbs
from soupctl.errors import InputError, LedgerError, UsageError
from soupctl.format.dtypes import DType
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


UNDIVIDED = (
    "merge_method: linear\nparameters: {normalize: false}\nmodels:\n"
    "  - {model: a.st, parameters: {weight: 0.7}}\n"
)


def test_linear_without_normalize_is_the_sum_itself(models):
    made = run(UNDIVIDED + "  - {model: b.st, parameters: {weight: 0.6}}\n")

    assert made == undivided(models, lambda name: (Fraction("0.7"), Fraction("0.6")))
    assert_proven("out.st")


def test_a_sum_has_other_weights_by_a_part_of_the_names(models):
    made = run(
        UNDIVIDED
        + "  - {model: b.st, parameters: {weight: [{filter: mlp, value: 0}, {filter: embed,"
        " value: 0.3}, {value: 1.5}]}}\n"
    )

    shares = dict(zip(NAMES, map(Fraction, ("1.5", "0", "0.3")), strict=True))
    assert made == undivided(models, lambda name: (Fraction("0.7"), shares[name]))
    assert_proven("out.st")


def test_what_is_taken_out_of_a_sum_leaves_the_sum_of_the_rest(models):
    run(UNDIVIDED + "  - {model: b.st, parameters: {weight: 1.5}}\n")
    revise("subtract", "out.st", Path("left.st"), (), ["a.st"])
    left = {name: data for name, (_, _, data) in contents(Path("left.st")).items()}

    assert left == undivided(models, lambda name: (Fraction(0), Fraction("1.5")))
    assert_proven("left.st")
    assert not verbs.holds("left.st", "a.st")


def test_a_sum_is_added_to_another_soup_as_one_ingredient(models):
    run(UNDIVIDED + "  - {model: b.st, parameters: {weight: 1.5}}\n")
    average("mean.st", "a.st", "base.st")
    revise("add", "mean.st", Path("more.st"), ["out.st"])
    average("same.st", "a.st", "base.st", "out.st")

    assert contents(Path("same.st")) == contents(Path("more.st"))
    ((_, ledger),) = verbs.history("more.st")
    assert {entry.name for entry in ledger.ingredients} == {"a.st", "base.st", "out.st"}
    assert_proven("more.st")


def undivided(models, weights_of) -> dict[str, bytes]:
    """By tensor, the exact sum of a and b with their weights, rounded once to float16."""
    found = {}
    for name in NAMES:
        pairs = list(zip(weights_of(name), (models["a"][name], models["b"][name]), strict=True))
        values = [
            sum((weight * Fraction(float(array[place])) for weight, array in pairs), Fraction(0))
            for place in range(9)
        ]
        found[name] = rounded(values, DType.F16)
    return found


def test_weights_that_add_up_to_one_make_a_mean(models):
    run(UNDIVIDED + "  - {model: b.st, parameters: {weight: 0.3}}\n")
    summed = Path("out.st").read_bytes()
    average("mean.st", ("a.st", Fraction("0.7")), ("b.st", Fraction("0.3")))

    assert Path("mean.st").read_bytes() == summed


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


ONE_OF_A = "merge_method: linear\nparameters: {{{}}}\nmodels: [{{model: a.st}}]\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("merge_method: passthrough\nmodels: [{model: a.st}]\n", "passthrough.*it stacks layers"),
        ("models: [{model: a.st}]\n", "merge_method is 'None'"),
        ("merge_method: [linear]\n", "merge_method is \\S+linear"),
        (
            "merge_method: linear\nslices: []\nmodels: [{model: a.st}]\n",
            "models and slices.*slices is not a list",
        ),
        ("merge_method: linear\nmodels: [{model: a.st}]\n", "'a.st' has no weight"),
        ("merge_method: task_arithmetic\nmodels: [{model: a.st}]\n", "base_model is missing"),
        (ONE_OF_A.format("weight: []"), "weight is an empty list"),
        (ONE_OF_A.format("weight: [{filter: up, value: 1}]"), "no value for the other tensors"),
        (ONE_OF_A.format("weight: [0.5, x]"), "weight is 'x', not a number"),
        (
            "merge_method: linear\nmodels: [{model: a.st, parameters: {density: 1}}]\n",
            "'density' is not supported",
        ),
        (
            ONE_OF_A.format("normalize: no, weight: -2"),
            "add up to -2",
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


MODELS = (
    "models:\n  - model: base.st\n"
    "  - {model: a.st, parameters: {weight: 1.2, density: 0.6}}\n"
    "  - {model: b.st, parameters: {weight: 0.3}}\n"
)
PLAIN = "models: [{model: a.st}, {model: b.st}]\n"
THREE = (Fraction("1.2"), Fraction("0.3"))
DENSE = (Fraction("0.6"), Fraction("0.5"))
SHARED = "base_model: base.st\nparameters: {density: 0.5, lambda: 0.9}\n" + MODELS


@pytest.mark.parametrize(
    ("text", "method", "options"),
    [
        ("merge_method: ties\n" + SHARED, "ties", {}),
        ("merge_method: dare_linear\n" + SHARED, "dare", {}),
        ("merge_method: dare_ties\n" + SHARED, "dare", {"elect": True}),
        ("merge_method: breadcrumbs\n" + SHARED, "breadcrumbs", {}),
        ("merge_method: breadcrumbs_ties\n" + SHARED, "breadcrumbs", {"elect": True}),
        ("merge_method: model_stock\nbase_model: base.st\n" + PLAIN, "model-stock", {}),
        (
            "merge_method: slerp\nbase_model: b.st\nparameters: {t: 0.3}\n" + PLAIN,
            "slerp",
            {"models": ("b.st", "a.st"), "weights": (Fraction("0.7"), Fraction("0.3"))},
        ),
        ("merge_method: karcher\n" + PLAIN, "karcher", {}),
    ],
)
def test_a_config_of_another_method_is_the_merge_that_it_means(text, method, options):
    run(text)
    made = Path("out.st").read_bytes()
    prunes = method in ("ties", "dare", "breadcrumbs")
    paths = options.pop("models", ("a.st", "b.st"))
    weights = options.pop("weights", THREE if prunes else (Fraction(1), Fraction(1)))
    verbs.merge(
        verbs.MergeRequest(
            verbs.MergeMethod(method),
            [verbs.Ingredient(*each) for each in zip(paths, weights, strict=True)],
            "merged.st",
            "base.st" if prunes or method == "model-stock" else None,
            DENSE if prunes else (),
            Fraction("0.9") if prunes else None,
            **options,
        )
    )

    assert made == Path("merged.st").read_bytes()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("merge_method: ties\n" + MODELS, "base_model is missing"),
        ("merge_method: della\nbase_model: base.st\n" + MODELS, "merge_method is 'della'"),
        ("merge_method: ties\nbase_model: base.st\n" + PLAIN, "'a.st' has no weight"),
        (
            "merge_method: ties\nbase_model: base.st\nparameters: {weight: [0, 1]}\n" + PLAIN,
            "not a number",
        ),
        (
            "merge_method: ties\nbase_model: base.st\nparameters: {weight: -1}\n" + PLAIN,
            "positive weights",
        ),
        (
            "merge_method: dare_ties\nbase_model: base.st\nparameters: {rescale: no}\n" + MODELS,
            "rescale",
        ),
        ("merge_method: slerp\nbase_model: c.st\nparameters: {t: 0.5}\n" + PLAIN, "one of the"),
        ("merge_method: slerp\nbase_model: a.st\n" + PLAIN, "t is None"),
        (
            "merge_method: model_stock\nbase_model: base.st\nparameters: {filter_wise: true}\n"
            + PLAIN,
            "filter_wise",
        ),
        ("merge_method: karcher\nparameters: {max_iter: 3}\n" + PLAIN, "max_iter"),
    ],
)
def test_a_method_that_means_something_else_is_refused_by_name(text, what):
    with pytest.raises(UsageError, match=what):
        run(text)


def test_no_sum_is_kept_of_a_merge_by_a_method():
    Path("config.yml").write_text("merge_method: karcher\n" + PLAIN)

    with pytest.raises(UsageError, match="no sum"):
        verbs.run_recipe(RecipeRun("config.yml", "out.st", keep_sum=True))


def test_the_inputs_of_a_merge_are_pinned_like_others():
    Path("config.yml").write_text("merge_method: karcher\n" + PLAIN)
    verbs.run_recipe(RecipeRun("config.yml", "out.st", lock=True))
    save(Path("a.st"), **dict.fromkeys(NAMES, np.zeros(9, np.float16)))

    with pytest.raises(LedgerError, match="is pinned to"):
        verbs.run_recipe(RecipeRun("config.yml", "other.st", lock=True))
