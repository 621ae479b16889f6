"""Soups that a method made: their bytes, their ledger, and what can be done with them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from making import contents, metadata, save
from method_work import combined

from soupctl import verbs
from soupctl.choices import Level, MergeMethod
from soupctl.cli.console import role_text, share_text, shares_json
from soupctl.errors import InputError, LedgerError, LimitError, MismatchError, UsageError
from soupctl.format.dtypes import DType
from soupctl.verbs import ComponentResult, ExecutionOptions, Ingredient, MergeRequest

BASED = ("ties", "dare", "della", "breadcrumbs", "model-stock")
PRUNING = BASED[:-1]
OTHERS = ("slerp", "karcher", "geometric-median")
SHAPES = {"a": (70, 1003), "b": (140_001,), "c": (1,), "d": (0, 3), "e": ()}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """A base, and three models near it in several dtypes, each with an integer."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    base = {name: draw.normal(0, 1, shape) for name, shape in SHAPES.items()}
    for name, dtype in (("base", "f4"), ("x", "f4"), ("y", "f2"), ("z", "f4")):
        far = 0.0 if name == "base" else 0.1
        arrays = {
            key: np.asarray(each + far * draw.normal(0, 1, each.shape)).astype(dtype)
            for key, each in base.items()
        }
        save(Path(f"{name}.st"), None, **arrays, position=np.arange(4))


def merge(method: str, *names: str, output: str = "out.st", **options: Any) -> ComponentResult:
    execution = options.pop("execution", None)
    if method in BASED:
        options.setdefault("base", "base.st")
    if method in PRUNING:
        options.setdefault("densities", (Fraction(1, 5),))
    models = names or (("x.st", "y.st") if method == "slerp" else ("x.st", "y.st", "z.st"))
    request = MergeRequest(MergeMethod(method), models, output, **options)
    (made,) = verbs.merge(request, force=True, execution=execution)
    return made


def verified(path: str = "out.st") -> verbs.Verified:
    (found,) = verbs.verify(path)
    return found


@pytest.mark.parametrize("method", [*BASED, *OTHERS])
def test_a_soup_is_what_the_method_makes_of_each_tensor_rounded_once(method):
    made = merge(method)
    settings = verbs.MergeRequest(
        MergeMethod(method),
        ["x.st", "y.st"] if method == "slerp" else ["x.st", "y.st", "z.st"],
        "out.st",
        "base.st" if method in BASED else None,
        (Fraction(1, 5),) if method in PRUNING else (),
    ).settings
    names = ["x", "y"] if method == "slerp" else ["x", "y", "z"]
    names = ["base", *names] if method in BASED else names
    loaded = [safetensors.numpy.load_file(f"{name}.st") for name in names]
    found = safetensors.numpy.load_file("out.st")

    assert method != "model-stock" or made.ledger.exact
    for name in SHAPES:
        expected = combined(settings, [each[name] for each in loaded], name)
        # the reference rounds an exact mean to float64 first
        assert np.array_equal(expected.astype("f4"), found[name]), name
    assert np.array_equal(np.arange(4), found["position"])


@pytest.mark.parametrize("method", [*BASED, *OTHERS])
def test_neither_threads_nor_chunks_change_a_byte(method):
    merge(method, execution=ExecutionOptions(threads=1))
    expected = Path("out.st").read_bytes()

    for threads, chunk in ((3, None), (1, 17), (2, 100_000)):
        merge(method, execution=ExecutionOptions(threads=threads, chunk=chunk))
        assert expected == Path("out.st").read_bytes()


@pytest.mark.parametrize("method", [*BASED, *OTHERS])
def test_a_soup_is_proven_by_its_ingredients(method):
    made = merge(method)
    found = verified()

    assert (Level.REBUILD, None, False) == (found.level, found.problem, found.refuted)
    assert made.ledger.exact == (method == "model-stock")
    assert made.ledger.method is not None
    assert ("base.st" in [each.name for each in made.ledger.ingredients]) == (method in BASED)


@pytest.mark.parametrize("method", ["ties", "karcher"])
def test_the_order_of_the_models_is_recorded_and_rebuilt(method):
    merge(method, "z.st", "x.st", "y.st")

    assert verified().level is Level.REBUILD


def test_seeds_give_soups_of_their_own_and_the_same_again():
    roots = [merge("dare", seed=seed).ledger.root for seed in (0, 1, 0)]

    assert roots[0] == roots[2] != roots[1]
    assert verified().level is Level.REBUILD


@pytest.mark.parametrize("method", ["ties", "slerp", "model-stock"])
@pytest.mark.parametrize("change", ["add", "subtract", "swap"])
def test_nothing_is_put_into_or_taken_out_of_a_merge(method, change):
    merge(method)
    save(Path("w.st"), None, **safetensors.numpy.load_file("z.st") | {"c": np.ones(1, "f4")})
    options = {
        "add": {"added": ["w.st"]},
        "subtract": {"removed": ["x.st"]},
        "swap": {"removed": ["x.st"], "added": ["w.st"]},
    }[change]

    for approximate in (False, True):
        revision = verbs.Revision(change, "out.st", "new.st", approximate=approximate, **options)
        with pytest.raises(LedgerError, match=f"was merged by {method}") as refused:
            verbs.revise(revision)
        assert refused.value.exit_code == 5
    assert not Path("new.st").exists()


def test_a_merge_is_an_ingredient_like_any_other():
    merge("ties")
    verbs.average(verbs.Request(["out.st", "x.st"], "soup.st"))
    (found,) = verbs.verify("soup.st")
    ((_, ledger),) = verbs.history("soup.st")

    assert found.level is Level.REBUILD
    assert not ledger.exact
    assert [each.method.method for each in ledger.ancestors.values() if each.method] == ["ties"]
    assert verbs.holds("soup.st", "y.st")


def test_a_merge_that_is_added_stays_one_ingredient():
    merge("slerp")
    verbs.average(verbs.Request(["x.st", "z.st"], "soup.st"))
    verbs.revise(verbs.Revision("add", "soup.st", "more.st", ["out.st"]))
    ((_, ledger),) = verbs.history("more.st")

    assert sorted(each.name for each in ledger.ingredients) == ["out.st", "x.st", "z.st"]


@pytest.mark.parametrize("method", ["ties", "model-stock", "slerp"])
def test_a_changed_tensor_is_found(method):
    merge(method)
    loaded, facts = safetensors.numpy.load_file("out.st"), metadata(Path("out.st"))
    loaded["c"] = loaded["c"] + np.float32(1)
    safetensors.numpy.save_file(loaded, "out.st", facts)

    assert verified().refuted


def test_models_may_be_wide_apart_in_dtype():
    merge("ties", dtype=DType.BF16)

    assert {each[0] for name, each in contents(Path("out.st")).items() if name in SHAPES} == {
        "BF16"
    }
    assert verified().level is Level.REBUILD


def test_nan_is_refused_by_file_and_tensor():
    loaded = safetensors.numpy.load_file("y.st")
    loaded["b"][100_000] = np.nan
    save(Path("y.st"), None, **loaded)

    for method in ("ties", "dare", "model-stock"):
        with pytest.raises(InputError, match=r"y\.st") as refused:
            merge(method)
        assert refused.value.issues[0].tensor == "b"
        assert "--exclude 'b' leaves it out" == refused.value.issues[0].advice


def test_a_result_that_no_float_holds_is_refused():
    with pytest.raises(MismatchError):
        merge("ties", scale=Fraction(10**29), dtype=DType.F16)


@pytest.mark.parametrize("method", ["model-stock", *OTHERS])
def test_values_whose_products_no_float_holds_are_refused(method):
    draw = np.random.default_rng(0)
    for name in ("base.st", "x.st", "y.st", "z.st"):
        save(Path(name), None, w=draw.normal(0, 1e200, 1000))

    with pytest.raises(MismatchError, match="too large") as refused:
        merge(method)
    assert refused.value.issues[0].tensor == "w"


def test_equal_models_are_refused():
    Path("copy.st").write_bytes(Path("x.st").read_bytes())

    for method, names in (("slerp", ("x.st", "copy.st")), ("ties", ("x.st", "x.st"))):
        with pytest.raises(UsageError, match="has the same content"):
            merge(method, *names)
    with pytest.raises(UsageError, match="has the same content"):
        merge("ties", "copy.st", base="x.st")


def test_a_row_that_della_cannot_rank_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("soupctl.methods.settings.LONGEST_ROW", 100_000)

    with pytest.raises(LimitError, match="140001") as refused:
        merge("della")
    assert refused.value.issues[0].tensor == "b"


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("ties", {"base": None}, "needs the model"),
        ("ties", {"densities": ()}, "needs the share"),
        ("ties", {"gamma": Fraction(1, 9)}, "takes no gamma"),
        ("slerp", {"base": "base.st"}, "takes no base"),
        ("karcher", {"densities": (Fraction(1, 5),)}, "takes no densities"),
        ("model-stock", {"scale": Fraction(2)}, "takes no scale"),
        ("dare", {"epsilon": Fraction(1, 9)}, "takes no epsilon"),
        ("breadcrumbs", {"seed": 1}, "takes no seed"),
        ("slerp", {"elect": False}, "takes no elect"),
        ("slerp", {"normalize": False}, "takes no normalize"),
    ],
)
def test_what_a_method_needs_or_does_not_take_is_said(method, options, said):
    with pytest.raises(UsageError, match=said):
        merge(method, **options)


def test_two_models_are_as_many_as_slerp_takes():
    with pytest.raises(UsageError, match="takes 2 models"):
        merge("slerp", "x.st", "y.st", "z.st")


def test_model_stock_weighs_all_models_alike():
    request = MergeRequest(
        MergeMethod.MODEL_STOCK, [Ingredient("x.st", Fraction(2)), "y.st"], "out.st", "base.st"
    )
    with pytest.raises(UsageError, match="the same weight"):
        verbs.merge(request)


def test_models_have_weights_and_no_scales_in_words():
    merge("ties", "x.st", "y.st")
    ((_, ledger),) = verbs.history("out.st")

    roles = {each.name: role_text(ledger, each) for each in ledger.ingredients}
    assert {"base.st": "base", "x.st": "weight 1", "y.st": "weight 1"} == roles
    request = MergeRequest(MergeMethod.MODEL_STOCK, ["x.st", "y.st"], "new.st", base="base.st")
    with verbs.open_merge(request) as job:
        assert not verbs.preview(job).added


def test_the_ledger_of_model_stock_records_the_ratio_of_each_tensor():
    made = merge("model-stock")

    assert made.ledger.method is not None
    assert len(made.ledger.method.ratios) == len(SHAPES)
    for text in made.ledger.method.ratios:
        assert 0 <= Fraction(text) <= 1


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "blake3:" + blake3(text.encode()).hexdigest()


def change_ratio(document: dict[str, Any]) -> None:
    document["method"]["ratios"][0] = "1/2"


def change_density(document: dict[str, Any]) -> None:
    document["method"]["settings"]["density"] = "1/4,1/5,1/5"


def drop_density(document: dict[str, Any]) -> None:
    del document["method"]["settings"]["density"]


def reverse(document: dict[str, Any]) -> None:
    document["method"]["order"].reverse()


def twice(document: dict[str, Any]) -> None:
    document["method"]["order"][1] = document["method"]["order"][2]


def another(document: dict[str, Any]) -> None:
    document["method"]["name"] = "linear"


@pytest.mark.parametrize(
    ("method", "change", "problem"),
    [
        ("model-stock", change_ratio, "records other ratios"),
        ("ties", change_density, "is not the soup of its ingredients"),
        ("ties", drop_density, "malformed method"),
        ("ties", reverse, "malformed"),
        ("ties", twice, "malformed"),
        ("slerp", another, "malformed"),
    ],
)
def test_a_forged_method_is_found(method, change, problem):
    merge(method)
    document = json.loads(metadata(Path("out.st"))["soupctl"])
    change(document)
    document["digest"] = digest({k: v for k, v in document.items() if k != "digest"})
    loaded = safetensors.numpy.load_file("out.st")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    safetensors.numpy.save_file(loaded, "out.st", {"soupctl": text})

    found = verified()

    assert found.level is not Level.REBUILD
    assert problem in str(found.problem)


def test_a_merge_by_a_method_has_no_shares():
    merge("slerp")
    ((_, ledger),) = verbs.history("out.st")
    verbs.average(verbs.Request(["x.st", "y.st"], "mean.st"))
    ((_, mean),) = verbs.history("mean.st")

    assert [None, None] == [each["share"] for each in shares_json(ledger)]
    assert [0.5, 0.5] == [each["share"] for each in shares_json(mean)]
    assert ["       -", " 50.000%"] == [share_text(None), share_text(Fraction(1, 2))]
