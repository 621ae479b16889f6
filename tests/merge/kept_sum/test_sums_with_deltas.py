"""Sums kept of soups with deltas and adapters: what they hold, and when they serve."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltas import apply, delta
from keeping import forge, form_of, hide, scale_of, sum_of, values_of
from making import contents, save
from revising import assert_proven, average, revise, root

from soupctl import verbs
from soupctl.choices import Method
from soupctl.errors import LedgerError, MismatchError, UsageError
from soupctl.verbs import Level

Q, K = "a.to_q.weight", "a.to_k.weight"


def lora(path: str, seed: int, alpha: float, rank: int, **others: Any) -> np.ndarray:
    """A LoRA of two layers; returns the product of the first, without its scale."""
    random = np.random.default_rng(seed)
    arrays = dict(others)
    for name in ("a.to_q", "a.to_k"):
        arrays[f"{name}.lora_down.weight"] = random.integers(-9, 9, (rank, 4)).astype(np.float16)
        arrays[f"{name}.lora_up.weight"] = random.integers(-9, 9, (4, rank)).astype(np.float16)
        arrays[f"{name}.alpha"] = np.float16(alpha)
    save(Path(path), **arrays)
    up, down = (arrays[f"a.to_q.lora_{each}.weight"].astype(float) for each in ("up", "down"))
    return up @ down


@pytest.fixture(autouse=True)
def _in_a_folder_with_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    for name in ("base", "fine", "other"):
        arrays = {each: random.normal(0, 1, (4, 4)).astype(np.float16) for each in (Q, K)}
        arrays[Q][0] = -0.0
        save(Path(f"{name}.st"), **arrays, bias=random.normal(0, 1, 3).astype(np.float16))
    delta("fine.st", "base.st", "fine.delta")
    delta("other.st", "base.st", "other.delta")
    lora("one.st", 2, 1.0, 3)
    lora("two.st", 3, 2.0, 2)


def numbers(path: str, name: str) -> list[Fraction]:
    _, _, data = contents(Path(path))[name]
    return [Fraction(float(each)) for each in np.frombuffer(data, np.float16)]


def test_a_sum_holds_the_base_the_differences_and_the_products_exactly():
    product = lora("one.st", 2, 1.0, 3)

    made = apply(
        "base.st", ("fine.delta", Fraction(1, 2)), ("one.st", 2), output="k.st", keep_sum=True
    )

    # twice for the half of a delta, three times for an alpha of 1 over a rank of 3
    assert scale_of(Path("k.st")) == 6
    base, fine = numbers("base.st", Q), numbers("fine.st", Q)
    expected = [
        6 * b + 3 * (f - b) + 6 * 2 * Fraction(int(p), 3)
        for b, f, p in zip(base, fine, product.reshape(-1), strict=True)
    ]
    assert expected == values_of(sum_of(Path("k.st")), Q)
    assert made.sum is not None
    assert_proven("k.st")


def test_the_soup_has_the_same_bytes_with_and_without_a_sum():
    for deltas in (["fine.delta"], ["one.st"], ["fine.delta", ("one.st", Fraction(1, 3))]):
        apply("base.st", *deltas, output="with.st", keep_sum=True)
        apply("base.st", *deltas, output="without.st")

        assert Path("with.st").read_bytes() == Path("without.st").read_bytes()
        assert_proven("with.st")


@pytest.mark.parametrize(
    ("changes", "what_remains"),
    [
        ([("subtract", [], ["one.st"])], [("fine.delta", Fraction(1, 3))]),
        ([("add", ["two.st"], [])], [("fine.delta", Fraction(1, 3)), "one.st", "two.st"]),
        ([("swap", ["two.st"], ["one.st"])], [("fine.delta", Fraction(1, 3)), "two.st"]),
        ([("swap", ["other.delta"], ["fine.delta"])], [("other.delta", Fraction(1, 3)), "one.st"]),
        (
            [("add", [("two.st", Fraction(1, 7))], []), ("subtract", [], ["two.st"])],
            [("fine.delta", Fraction(1, 3)), "one.st"],
        ),
    ],
)
def test_changes_read_only_what_changes_and_leave_no_trace(changes, what_remains):
    apply("base.st", ("fine.delta", Fraction(1, 3)), "one.st", output="0.st", keep_sum=True)
    apply("base.st", *what_remains, output="fresh.st", keep_sum=True)
    named = [name for _, *both in changes for each in both for name in map(str, each)]
    hide(*(each for each in ("base.st", "fine.delta", "one.st") if each not in f"{named}"))

    for number, (operation, added, removed) in enumerate(changes, 1):
        made = revise(operation, f"{number - 1}.st", Path(f"{number}.st"), added, removed)
        assert made.method is Method.SUM

    last = Path(f"{len(changes)}.st")
    assert root(last) == root("fresh.st")
    assert root(sum_of(last)) == root(sum_of(Path("fresh.st")))
    assert scale_of(last) == scale_of(Path("fresh.st"))


def test_a_single_delta_that_gives_fine_keeps_its_signs_of_zeros_and_a_sum_of_the_difference():
    apply("base.st", "fine.delta", output="k.st", keep_sum=True)
    assert contents(Path("fine.st")) == contents(Path("k.st"))
    assert numbers("fine.st", Q) == values_of(sum_of(Path("k.st")), Q)

    hide("base.st", "fine.delta")
    made = revise("add", "k.st", Path("both.st"), ["one.st"])
    assert made.method is Method.SUM
    # back to FINE needs its signs of zeros
    with pytest.raises(LedgerError, match="is not found, and an exact soup needs it"):
        revise("subtract", "both.st", Path("x.st"), [], ["one.st"])

    for name in ("base.st", "fine.delta"):
        Path("hidden", name).rename(name)
    revise("subtract", "both.st", Path("again.st"), [], ["one.st"])
    assert contents(Path("fine.st")) == contents(Path("again.st"))
    assert root(sum_of(Path("k.st"))) == root(sum_of(Path("again.st")))


def test_a_tensor_that_a_delta_keeps_whole_has_no_sum():
    for number, name in enumerate("ab"):
        arrays = {"w": np.ones(3, np.float16) * number, "n": np.arange(3) + number}
        save(Path(f"{name}.st"), **arrays)
    delta("b.st", "a.st", "whole.delta")

    with pytest.raises(
        MismatchError, match=r"whole\.delta: n: is kept whole, without a difference"
    ):
        apply("a.st", "whole.delta", output="x.st", keep_sum=True)
    assert not Path("x.st").exists()
    # as one of several, with the integers of the base
    apply("a.st", ("whole.delta", 2), output="k.st", keep_sum=True, on_int=verbs.OnInt.FIRST)
    assert_proven("k.st")


def test_what_the_sum_does_not_say_is_read_from_the_ingredients():
    # an adapter is located in the whole base, of which the soup has a part
    apply("base.st", ("fine.delta", 2), output="part.st", excludes=("bias",), keep_sum=True)
    made = revise("add", "part.st", Path("more.st"), ["one.st"])
    assert made.method is Method.INGREDIENTS
    assert_proven("more.st")

    # text encoders are told apart by their folders
    layer = "text_model.encoder.layers.0.self_attn.q_proj"
    save(Path("encoder.st"), **{f"{layer}.weight": np.ones((4, 4), np.float16)})
    factors = {"lora_A": np.ones((1, 4), np.float16), "lora_B": np.ones((4, 1), np.float16)}
    for name, value in (("x.st", 1), ("y.st", 2)):
        save(Path(name), **{f"{layer}.{key}.weight": each * value for key, each in factors.items()})
    apply("encoder.st", "x.st", output="kept.st", keep_sum=True)
    assert revise("add", "kept.st", Path("encoder-2.st"), ["y.st"]).method is Method.INGREDIENTS
    assert_proven("kept.st", "encoder-2.st")


def test_sums_that_cannot_be_kept_are_refused_in_one_line():
    fine = Fraction(1, 2**61 - 1)
    with pytest.raises(UsageError, match="too fine"):
        apply(
            "base.st",
            ("fine.delta", fine),
            ("one.st", Fraction(1, 7)),
            output="x.st",
            keep_sum=True,
        )
    with pytest.raises(UsageError, match="no sum can be kept of NaN or infinity"):
        apply("base.st", "one.st", output="x.st", keep_sum=True, allow_nonfinite=True)
    with pytest.raises(UsageError, match="a kept sum needs a file as output"):
        apply("base.st", "one.st", output="-", keep_sum=True)
    assert not Path("x.st").exists()


def test_a_recipe_of_a_mean_with_a_lora_keeps_a_sum_and_models_come_and_go():
    Path("r.toml").write_text(
        '[inputs]\na = "base.st"\nb = "other.st"\nl = "one.st"\n'
        '[steps.mean]\naverage = ["a", "b"]\n'
        '[steps.out]\nbase = "mean"\nadd = ["l"]\nscales = ["1/2"]\n'
    )
    verbs.run_recipe(verbs.RecipeRun("r.toml", "k.st", keep_sum=True))
    assert_proven("k.st")
    hide("base.st", "other.st")

    made = revise("add", "k.st", Path("three.st"), ["fine.st"])
    assert made.method is Method.SUM
    back = revise("subtract", "three.st", Path("back.st"), [], ["fine.st"])
    assert back.method is Method.SUM
    assert root("k.st") == root("back.st")
    assert root(sum_of(Path("k.st"))) == root(sum_of(Path("back.st")))

    # the scale of a LoRA is not divided by the total weight of models, so it must be read
    hide("one.st")
    with pytest.raises(LedgerError, match="is not found"):
        revise("add", "k.st", Path("x.st"), ["fine.st"])


def test_a_sum_is_no_sum_of_a_mean_with_the_same_entries():
    apply("base.st", "one.st", output="k.st", keep_sum=True)
    average("mean.st", "base.st", "other.st", keep_sum=True)
    sum_of(Path("mean.st")).rename(sum_of(Path("k.st")))

    with pytest.raises(LedgerError, match="is the sum of another soup"):
        revise("add", "k.st", Path("x.st"), ["two.st"])


@pytest.mark.parametrize(
    "denominators", [[1, 1], [1], [0, 1], ["3", 1], [True, 3], [3, 3], [-3, 1], [2**80, 1], "31"]
)
def test_forged_denominators_are_refused_or_disproved(denominators):
    apply("base.st", "one.st", output="k.st", keep_sum=True)

    def change(facts: dict[str, Any]) -> None:
        facts["denominators"] = denominators

    forge(sum_of(Path("k.st")), facts=change)
    (found,) = verbs.verify("k.st")
    assert found.level is not Level.REBUILD, found


def test_a_product_of_wide_factors_takes_as_many_planes_as_it_needs():
    wide = {
        f"a.to_q.lora_{side}.weight": np.float32(3.0) ** np.arange(8).reshape(shape) * scale
        for side, shape, scale in (("up", (4, 2), 2.0**-70), ("down", (2, 4), 2.0**60))
    }
    save(Path("wide.st"), **{name: each.astype(np.float32) for name, each in wide.items()})
    apply("base.st", "wide.st", output="k.st", keep_sum=True)

    assert form_of(sum_of(Path("k.st")), K) == "0:F32"
    up, down = (
        [[Fraction(float(v)) for v in row] for row in wide[f"a.to_q.lora_{side}.weight"]]
        for side in ("up", "down")
    )
    product = [
        sum(u * d for u, d in zip(row, column, strict=True))
        for row in up
        for column in zip(*down, strict=True)
    ]
    expected = [b + p for b, p in zip(numbers("base.st", Q), product, strict=True)]
    assert expected == values_of(sum_of(Path("k.st")), Q)
    assert_proven("k.st")
