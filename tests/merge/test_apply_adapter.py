"""Adapters are applied exactly: base + scale * alpha / rank * (B A), rounded once."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deltas import apply, floats, numbers, rounded
from making import contents, metadata, save, save_raw
from revising import assert_proven, revise, verified

from soupctl import verbs
from soupctl.errors import InputError, LedgerError, MismatchError, UsageError
from soupctl.format.dtypes import FLOATS, DType
from soupctl.verbs import ExecutionOptions, Ingredient, Level

ROWS, COLUMNS, RANK = 6, 8, 3
ADAPTERS = tuple(dtype for dtype in FLOATS if dtype is not DType.F64)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save_floats(path, dtype, **shapes):
    """A file of adversarial floats; their values by name, [rows][columns]."""
    raw, values = {}, {}
    for name, shape in shapes.items():
        plain = name.replace("__", ".")
        data = floats(dtype, shape[0] * shape[1], f"{path} {name}")
        raw[plain] = (dtype.value, shape, data)
        flat = numbers(dtype, data)
        values[plain] = [flat[n * shape[1] : (n + 1) * shape[1]] for n in range(shape[0])]
    save_raw(Path(path), raw)
    return values


def product(up, down):
    return [
        [
            sum((u * d for u, d in zip(row, column, strict=True)), Fraction(0))
            for column in zip(*down, strict=True)
        ]
        for row in up
    ]


@pytest.mark.parametrize("base", FLOATS, ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("dtype", ADAPTERS, ids=lambda dtype: dtype.value)
def test_every_element_is_the_exact_sum_rounded_once(base, dtype):
    own = save_floats("b.st", base, m__weight=(ROWS, COLUMNS))["m.weight"]
    updates = []
    for name in ("x", "y"):
        factors = save_floats(
            f"{name}.st",
            dtype,
            m__lora_up__weight=(ROWS, RANK),
            m__lora_down__weight=(RANK, COLUMNS),
        )
        updates.append(product(factors["m.lora_up.weight"], factors["m.lora_down.weight"]))
    scales = (Fraction(7, 10), Fraction(-1, 3))
    total = [
        own[r][c] + sum(s * u[r][c] for s, u in zip(scales, updates, strict=True))
        for r in range(ROWS)
        for c in range(COLUMNS)
    ]
    given = tuple(zip(("x.st", "y.st"), scales, strict=True))
    expected = rounded(total, base)
    if expected is None:
        with pytest.raises(MismatchError, match="beyond the range"):
            apply("b.st", *given)
        return

    apply("b.st", *given)

    assert (base.value, (ROWS, COLUMNS), expected) == contents(Path("out.st"))["m.weight"]


def save_pair(size=1.0):
    """A base of F16 and a LoRA of rank 2 with an alpha of 1."""
    random = np.random.default_rng(3)
    save(
        Path("b.st"),
        {"format": "pt", "modelspec.title": "base"},
        **{"m.to_q.weight": random.normal(0, 1, (40, 50)).astype(np.float16)},
        **{"n.weight": random.normal(0, 1, 40).astype(np.float16)},
    )
    save(
        Path("l.st"),
        {"ss_network_dim": "2"},
        **{"m.to_q.lora_A.weight": random.normal(0, size, (2, 50)).astype(np.float16)},
        **{"m.to_q.lora_B.weight": random.normal(0, 1, (40, 2)).astype(np.float16)},
        **{"m.to_q.alpha": np.float16(1)},
    )


def arrays(path):
    return {
        name: np.frombuffer(data, {"F16": np.float16, "F32": np.float32}[dtype]).reshape(shape)
        for name, (dtype, shape, data) in contents(Path(path)).items()
    }


def test_alpha_over_rank_and_the_scale_multiply_the_update():
    save_pair()

    apply("b.st", ("l.st", Fraction(4, 5)))

    base, lora, out = arrays("b.st"), arrays("l.st"), arrays("out.st")
    up, down = (lora[f"m.to_q.lora_{part}.weight"].astype(float) for part in "BA")
    exact = base["m.to_q.weight"].astype(float) + up @ down * 0.4
    assert np.array_equal(exact.astype(np.float16), out["m.to_q.weight"])
    assert np.array_equal(base["n.weight"], out["n.weight"])
    assert ("pt", "base") == tuple(
        metadata(Path("out.st"))[k] for k in ("format", "modelspec.title")
    )


@pytest.mark.parametrize("options", [{"chunk": 7}, {"chunk": 1000, "threads": 2}, {"threads": 1}])
def test_chunks_and_threads_change_no_byte(options):
    save_pair()
    apply("b.st", "l.st")
    before = Path("out.st").read_bytes()

    application = verbs.Application("b.st", [Ingredient("l.st")], "out.st")
    verbs.apply(application, force=True, execution=ExecutionOptions(**options))

    assert before == Path("out.st").read_bytes()


def test_a_lora_of_scale_minus_one_undoes_scale_one_on_a_wide_base():
    save_pair(size=0.0)
    apply("b.st", "l.st")

    assert contents(Path("b.st")) == contents(Path("out.st"))


def test_the_same_content_twice_is_one_ingredient_with_the_summed_scale():
    save_pair()
    Path("copy.st").write_bytes(Path("l.st").read_bytes())

    made = apply("b.st", ("l.st", Fraction(1, 2)), ("copy.st", Fraction(1, 4)))

    assert [Fraction(3, 4), Fraction(1)] == sorted(e.weight for e in made.ledger.ingredients)
    with pytest.raises(UsageError, match="cancel"):
        apply("b.st", "l.st", ("copy.st", -1))


def test_a_delta_and_an_adapter_are_applied_in_one_rounding():
    save_pair()
    random = np.random.default_rng(9)
    fine = {
        name: array + random.normal(0, 0.01, array.shape).astype(np.float16)
        for name, array in arrays("b.st").items()
    }
    save(Path("f.st"), **fine)
    verbs.make_delta(verbs.DeltaRequest("f.st", "b.st", "d.st"))

    apply("b.st", ("d.st", Fraction(1, 2)), "l.st", dtype=DType.F16)

    base, lora, out = arrays("b.st"), arrays("l.st"), arrays("out.st")
    up, down = (lora[f"m.to_q.lora_{part}.weight"].astype(float) for part in "BA")
    name = "m.to_q.weight"
    middle = (base[name].astype(float) + fine[name].astype(float)) / 2
    assert np.array_equal((middle + up @ down / 2).astype(np.float16), out[name])


def test_a_soup_knows_the_adapter_that_it_holds():
    save_pair()
    apply("b.st", ("l.st", Fraction(4, 5)))

    (held,) = verbs.holds("out.st", "l.st")

    assert ("l.st", Fraction(4, 5)) == (held.name, held.weight)


def test_modules_without_a_place_are_refused_with_their_names():
    save_pair()
    one = {
        "lora_down.weight": np.ones((2, 50), np.float16),
        "lora_up.weight": np.ones((40, 2), np.float16),
    }
    save(
        Path("x.st"), **{f"other.{n}.{key}": array for n in range(9) for key, array in one.items()}
    )

    with pytest.raises(MismatchError, match=r"x.st: other.0: matches no layer of b.st") as refused:
        apply("b.st", "x.st")

    assert 9 == len(refused.value.issues)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"up": (40, 2), "down": (2, 49)}, "is 40 by 49, where b.st has 40 by 50"),
        ({"up": (40, 3), "down": (2, 50)}, "does not multiply"),
    ],
)
def test_an_update_of_another_shape_is_refused(shapes, words):
    save_pair()
    save(
        Path("x.st"),
        **{f"m.to_q.lora_{k}.weight": np.ones(s, np.float16) for k, s in shapes.items()},
    )

    with pytest.raises(MismatchError, match=words):
        apply("b.st", "x.st")


def test_factors_that_are_not_finite_are_refused():
    save_pair()
    lora = {name: array.copy() for name, array in arrays("l.st").items()}
    lora["m.to_q.lora_A.weight"][0, 0] = np.nan
    save(Path("x.st"), **lora)

    with pytest.raises(InputError, match=r"x.st: m.to_q.lora_A.weight: holds NaN or infinity"):
        apply("b.st", "x.st")


def test_the_config_of_peft_beside_an_adapter_gives_its_scale():
    save_pair()
    lora = {
        f"base_model.model.{name}": array
        for name, array in arrays("l.st").items()
        if "alpha" not in name
    }
    save(Path("peft/adapter_model.safetensors"), **lora)
    Path("peft/adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "lora_alpha": 1, "r": 2})
    )

    apply("b.st", "peft/adapter_model.safetensors", output="peft.st")
    apply("b.st", "peft", output="folder.st")
    apply("b.st", "l.st")

    assert contents(Path("out.st")) == contents(Path("peft.st")) == contents(Path("folder.st"))


def test_a_config_of_peft_beside_a_file_of_another_name_is_not_read_and_that_is_said():
    save_pair()
    Path("adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 8}))
    lora = {name: array for name, array in arrays("l.st").items() if "alpha" not in name}
    save(Path("style.st"), **lora)

    notes = {}
    for name in ("style.st", "l.st"):
        with verbs.open_application(verbs.Application("b.st", [name], "x.st")) as job:
            notes[name] = job.notes

    (note,) = notes["style.st"]
    assert note.startswith("style.st: has no alphas, so its scale is 1; the adapter_config.json")
    assert notes["l.st"] == ()


@pytest.mark.parametrize("more", [{"use_dora": True}, {"layer_replication": [[0, 2], [1, 3]]}])
def test_a_config_of_peft_whose_updates_are_others_is_refused(more):
    save_pair()
    Path("peft").mkdir()
    Path("l.st").rename("peft/adapter_model.safetensors")
    config = {"peft_type": "LORA", "lora_alpha": 1, "r": 2, **more}
    Path("peft/adapter_config.json").write_text(json.dumps(config))

    with pytest.raises(InputError, match="is not linear here"):
        apply("b.st", "peft")


def test_a_config_of_peft_that_says_other_scales_now_proves_and_changes_nothing():
    save_pair()
    lora = {name: array for name, array in arrays("l.st").items() if "alpha" not in name}
    save(Path("peft/adapter_model.safetensors"), **lora)
    config = Path("peft/adapter_config.json")
    config.write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 1, "r": 2}))
    other = {name: array * np.float16(2) for name, array in arrays("l.st").items()}
    save(Path("x.st"), **other)
    apply("b.st", "peft", "x.st")
    assert_proven("out.st")

    for text in (None, json.dumps({"peft_type": "LORA", "lora_alpha": 3, "r": 2})):
        kept = config.read_text()
        config.unlink() if text is None else config.write_text(text)
        found = verified("out.st")
        assert (Level.DIGEST, False) == (found.level, found.refuted)
        assert "put back the adapter_config.json" in found.problem
        with pytest.raises(LedgerError, match="its scales are not those that the ledger records"):
            revise("subtract", "out.st", "less.st", (), ["x.st"])
        config.write_text(kept)
    revise("subtract", "out.st", "less.st", (), ["x.st"])
    assert_proven("less.st")


def test_a_left_out_tensor_is_not_changed_and_the_adapter_is_still_an_ingredient():
    save_pair()

    made = apply("b.st", "l.st", excludes=("m.*",))

    assert ["n.weight"] == list(contents(Path("out.st")))
    assert 2 == len(made.ledger.ingredients)


def test_a_mean_of_adapters_is_refused_and_names_apply():
    save_pair()
    other = {name: array + np.float16(1) for name, array in arrays("l.st").items()}
    save(Path("x.st"), **other)

    with pytest.raises(MismatchError, match="soupctl apply BASE LORA"):
        verbs.average(verbs.Request([Ingredient("l.st"), Ingredient("x.st")], "out.st"))


def test_adapters_are_taken_out_and_added_as_if_they_had_always_been_so():
    save_pair()
    other = {name: array * np.float16(2) for name, array in arrays("l.st").items()}
    save(Path("x.st"), **other)
    scale = Fraction(4, 5)
    apply("b.st", ("l.st", scale), "x.st", output="both.st")
    apply("b.st", "x.st", output="one.st")

    revise("subtract", "both.st", Path("left.st"), (), ["l.st"])
    revise("add", "left.st", Path("again.st"), [("l.st", scale)])
    revise("subtract", "one.st", Path("none.st"), (), ["x.st"])

    assert contents(Path("one.st")) == contents(Path("left.st"))
    assert contents(Path("both.st")) == contents(Path("again.st"))
    assert contents(Path("b.st")) == contents(Path("none.st"))
    for soup in ("both.st", "left.st", "again.st"):
        assert Level.REBUILD is verified(Path(soup)).level
    assert verbs.holds("left.st", "l.st") is None


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        ({"m.oft_blocks": (2, 4, 4), "m.alpha": (1,)}, "OFT"),
        ({"m.oft_diag": (2, 4, 4)}, "OFT"),
        ({f"m.{part}.weight": (2, 2) for part in ("a1", "a2", "b1", "b2")}, "GLoRA"),
        ({"m.weight": (50,), "m.on_input": (1,)}, "IA3"),
        ({f"m.processor.qkv_lora1.{half}.weight": (2, 2) for half in ("up", "down")}, "LoRA"),
    ],
)
def test_an_adapter_of_another_kind_is_refused_by_its_kind_not_as_a_model(shapes, kind):
    save_pair()
    save(Path("x.st"), **{name: np.ones(shape, np.float16) for name, shape in shapes.items()})

    with pytest.raises(MismatchError, match=rf"x\.st: is an adapter \({kind}\) of a form"):
        apply("b.st", "x.st")
