"""A plan says what becomes of each tensor, or why ingredients do not fit, all reasons at once."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.choices import OnInt
from soupctl.errors import MismatchError, UsageError
from soupctl.format.dtypes import FLOATS, DType, Kind
from soupctl.format.header import Tensor, lay_out
from soupctl.kinds.kind import Role
from soupctl.merge.plan import Plan, make_plan
from soupctl.merge.recipe import Recipe
from soupctl.merge.step import Rule

Shapes = dict[str, tuple[DType, tuple[int, ...]]]

F16, BF16, F32, F64 = DType.F16, DType.BF16, DType.F32, DType.F64
E4M3, E5M2 = DType.F8_E4M3, DType.F8_E5M2


def tensors(**shapes: tuple[DType, tuple[int, ...]]) -> dict[str, Tensor]:
    laid_out = lay_out((name.replace("__", "."), *rest) for name, rest in shapes.items())
    return {tensor.name: tensor for tensor in laid_out}


def plan(*contents: dict[str, Tensor], **recipe: object) -> Plan:
    names = [f"{letter}.st" for letter in "abcdefgh"[: len(contents)]]
    weights = (Fraction(1),) * len(contents)
    return make_plan(Recipe(weights, **recipe), names, contents)  # type: ignore[arg-type]


def refusal(*contents: dict[str, Tensor], **recipe: object) -> MismatchError:
    with pytest.raises(MismatchError) as caught:
        plan(*contents, **recipe)
    return caught.value


def test_steps_go_by_name_in_the_order_of_utf8():
    made = plan(
        tensors(**{"b": (F16, ()), "\U0001f35c": (F16, ()), "\uffee": (F16, ()), "B": (F16, ())})
    )

    assert ["B", "b", "\uffee", "\U0001f35c"] == [step.name for step in made.steps]
    assert made.kept == made.steps


def test_every_ingredient_is_a_source_of_every_tensor():
    (step,) = plan(tensors(w=(F16, (2,))), tensors(w=(F32, (2,))), tensors(w=(F16, (2,)))).steps

    assert (Rule.AVERAGE, (0, 1, 2), (F16, F32, F16), F32) == (
        step.rule,
        step.sources,
        step.dtypes,
        step.out,
    )


NARROWEST = {
    **{(dtype, dtype): dtype for dtype in FLOATS},
    **{(dtype, F64): F64 for dtype in FLOATS},
    **{(dtype, F32): F32 for dtype in FLOATS if dtype is not F64},
    (E4M3, E5M2): F16,
    (E4M3, F16): F16,
    (E5M2, F16): F16,
    (E4M3, BF16): BF16,
    (E5M2, BF16): BF16,
    (F16, BF16): F32,
}


@pytest.mark.parametrize(("one", "other"), list(product(FLOATS, FLOATS)))
def test_mixed_floats_give_the_narrowest_float_that_holds_both(one, other):
    expected = NARROWEST.get((one, other)) or NARROWEST[other, one]
    (step,) = plan(tensors(w=(one, (2,))), tensors(w=(other, (2,)))).steps

    assert expected is step.out


@pytest.mark.parametrize("asked", FLOATS)
def test_an_asked_dtype_is_that_of_all_floats_and_of_nothing_else(asked):
    content = tensors(w=(F16, (2,)), ids=(DType.I64, (2,)), z=(DType.C64, (2,)))
    made = plan(content, content, dtype=asked)

    assert {"w": asked, "ids": DType.I64, "z": DType.C64} == {
        step.name: step.out for step in made.steps
    }


@pytest.mark.parametrize("dtype", DType)
def test_floats_are_averaged_and_everything_else_must_be_identical(dtype):
    content = tensors(w=(dtype, (8,)))
    (step,) = plan(content, dict(content)).steps

    assert (Rule.AVERAGE if dtype in FLOATS else Rule.IDENTICAL) is step.rule
    assert dtype is step.out


@pytest.mark.parametrize("dtype", DType)
def test_only_integers_are_taken_from_the_first_on_request(dtype):
    content = tensors(w=(dtype, (8,)))
    (step,) = plan(content, dict(content), on_int=OnInt.FIRST).steps
    expected = {Kind.FLOAT: Rule.AVERAGE, Kind.INTEGER: Rule.FIRST, Kind.OPAQUE: Rule.IDENTICAL}

    assert expected[dtype.kind] is step.rule


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (one, other)
        for one, other in product(DType, DType)
        if one != other and not (one in FLOATS and other in FLOATS)
    ],
)
def test_other_dtypes_do_not_mix(one, other):
    error = refusal(tensors(w=(one, (8,))), tensors(w=(other, (8,))))

    what = f"b.st: w: is {other.value} where a.st has {one.value} (only float dtypes may be mixed; "
    what += "--take takes it from one input, --exclude leaves it out)"
    assert what == error.message()


def test_all_mismatches_are_reported_at_once():
    error = refusal(
        tensors(a=(F16, (2,)), b=(F16, (2,)), c=(DType.I8, (2,))),
        tensors(a=(F16, (3,)), b=(F16, (2, 1)), c=(DType.U8, (2,))),
    )

    assert [("b.st", "a"), ("b.st", "b"), ("b.st", "c")] == [
        (issue.path, issue.tensor) for issue in error.issues
    ]
    assert "has shape [3] where a.st has [2]" == error.issues[0].what


def test_nothing_is_broadcast():
    for shape in [(), (1,), (1, 2), (2, 1)]:
        refusal(tensors(w=(F16, (2,))), tensors(w=(F16, shape)))


def test_differing_names_are_reported_for_every_ingredient():
    error = refusal(
        tensors(w=(F16, ()), x=(F16, ())),
        tensors(w=(F16, ())),
        tensors(w=(F16, ()), x=(F16, ()), y=(F16, ()), z=(F16, ()), zz=(F16, ())),
        tensors(y=(F16, ())),
    )

    assert [
        ("b.st", "lacks x, which a.st has"),
        ("c.st", "has y, z and 1 more, which a.st lacks"),
        ("d.st", "lacks w, x, which a.st has, and has y, which a.st lacks"),
    ] == [(issue.path, issue.what) for issue in error.issues]
    assert all("--on-missing keep" in str(issue.advice) for issue in error.issues)


def test_an_ingredient_without_tensors_does_not_fit_one_with():
    refusal(tensors(w=(F16, ())), tensors())
    refusal(tensors(), tensors(w=(F16, ())))


CROSS = "down_blocks__1__attentions__0__transformer_blocks__0__attn2__to_k__weight"


def test_the_architectures_are_named_where_tensor_names_differ():
    first = tensors(**{CROSS: (F16, (320, 768))})
    other = tensors(**{CROSS: (F16, (640, 2048)), "add_embedding__linear_1__weight": (F16, (8,))})

    hint = "a.st looks like SD 1.x UNet, diffusers naming, b.st like SDXL UNet, diffusers naming"
    assert hint == refusal(first, other).issues[0].advice


def test_nine_input_channels_against_four_are_explained():
    error = refusal(
        tensors(conv_in__weight=(F16, (320, 4, 3, 3))),
        tensors(conv_in__weight=(F16, (320, 9, 3, 3))),
    )

    assert "inpainting" in str(error.issues[0].advice)


APPLY_LORA = "soupctl apply BASE LORA adds each to a model"
APPLY_ADAPTER = "soupctl apply BASE ADAPTER adds each to a model"


@pytest.mark.parametrize(
    ("factor", "advice"),
    [
        ("unet.down_blocks.0.attn1.to_q.lora_A.weight", APPLY_LORA),
        ("unet.down_blocks.0.attn1.to_q.lora_B.default.weight", APPLY_LORA),
        ("lora_unet_down_blocks_0_attn1_to_q.lora_down.weight", APPLY_LORA),
        ("lora_unet_down_blocks_0_attn1_to_q.lora_up.weight", APPLY_LORA),
        ("text_encoder.layers.0.q_proj.lora.up.weight", APPLY_LORA),
        ("lora_te_x.hada_w1_a", APPLY_ADAPTER),
        ("lora_te_x.lokr_w2", APPLY_ADAPTER),
        ("x.dora_scale", "fuse each adapter into its base first"),
    ],
)
def test_low_rank_factors_that_not_all_have_are_refused_with_a_hint(factor, advice):
    content = {factor: Tensor(factor, F16, (4, 2), 0, 16)}
    error = refusal(content, tensors(w=(F16, (2,))))

    assert factor == error.issues[0].tensor
    assert error.issues[0].advice == advice
    (step,) = plan(content, content).steps
    assert (Rule.IDENTICAL, Role.FACTOR) == (step.rule, step.kind.role)


@pytest.mark.parametrize(
    "name", ["exploration.weight", "lora", "colora_Around.weight", "flora.upper"]
)
def test_names_that_only_sound_like_factors_are_not_refused(name):
    content = {name: Tensor(name, F16, (4, 2), 0, 16)}

    assert Rule.AVERAGE is plan(content, content).steps[0].rule


def test_an_excluded_tensor_has_a_step_so_that_it_is_digested():
    one = tensors(a__w=(F16, (2,)), b__w=(F16, (2,)))
    other = tensors(a__w=(F16, (2,)), b__w=(DType.I8, (5, 5)), c=(F32, ()))
    made = plan(one, other, keys=("a.*",))

    assert ["a.w"] == [step.name for step in made.kept]
    assert [
        ("a.w", Rule.AVERAGE, (0, 1), (F16, F16), F16),
        ("b.w", Rule.LEFT_OUT, (0, 1), (F16, DType.I8), None),
        ("c", Rule.LEFT_OUT, (1,), (F32,), None),
    ] == [(step.name, step.rule, step.sources, step.dtypes, step.out) for step in made.steps]


@pytest.mark.parametrize(
    ("keys", "excludes", "kept"),
    [
        ((), (), ["a.b.w", "a.w", "b.w"]),
        (("a.*",), (), ["a.b.w", "a.w"]),
        (("a.*", "b.*"), ("*.b.*",), ["a.w", "b.w"]),
        ((), ("a*",), ["b.w"]),
        (("?.w",), (), ["a.w", "b.w"]),
        (("[!a]*",), (), ["b.w"]),
        (("A.*", "b.w"), (), ["b.w"]),
        (("b",), ("none",), None),
        ((), ("*",), None),
    ],
)
def test_globs_choose_tensors_and_exclude_wins(keys, excludes, kept):
    content = tensors(a__w=(F16, ()), a__b__w=(F16, ()), b__w=(F16, ()))
    if kept is None:
        with pytest.raises(UsageError, match=r"no tensor is left to average \(see keys"):
            plan(content, keys=keys, excludes=excludes)
    else:
        assert kept == [step.name for step in plan(content, keys=keys, excludes=excludes).kept]


shapes = st.lists(st.integers(0, 2), max_size=2).map(tuple)
contents = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.tuples(st.sampled_from([F16, F32, DType.I8]), shapes)
)


@given(st.lists(contents, min_size=1, max_size=4))
def test_every_tensor_of_every_ingredient_is_in_exactly_one_step(found):
    laid_out = [tensors(**content) for content in found]
    try:
        made = plan(*laid_out, keys=("a", "b"))
    except (MismatchError, UsageError):
        return
    digested = [(source, step.name) for step in made.steps for source in step.sources]

    assert sorted(digested) == sorted(
        (source, name) for source, content in enumerate(laid_out) for name in content
    )


def test_thousands_of_ingredients_of_one_layout_take_little_memory():
    content = {
        name: Tensor(name, F16, (2, 2), 8 * number, 8 * number + 8)
        for number, name in enumerate(f"blocks.{number}.weight" for number in range(5_000))
    }
    other = {name: Tensor(name, F32, each.shape, 0, 0) for name, each in content.items()}
    many = [content] * 2_500 + [other] * 2_500
    names = [f"{number}.st" for number in range(5_000)]

    tracemalloc.start()
    made = make_plan(Recipe((Fraction(1),) * 5_000), names, many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 5_000 == len(made.steps)
    assert peak < 32 << 20


HALVES, ALONE = (Fraction(1, 2), Fraction(1, 2)), (Fraction(1), Fraction(0))


def test_a_tensor_has_the_weights_of_the_first_glob_that_matches_it():
    content = tensors(a__w=(F16, (2,)), a__b=(F16, (2,)), c__w=(F16, (2,)))
    recipe = Recipe((Fraction(7, 10), Fraction(3, 10)), blocks=(("a.*", HALVES), ("*.w", ALONE)))
    made = make_plan(recipe, ["a.st", "b.st"], [content, content])

    assert {"a.b": ((1, 1), 2), "a.w": ((1, 1), 2), "c.w": ((1, 0), 1)} == {
        step.name: (step.weights.whole, step.weights.divisor) for step in made.steps
    }
    assert ((7, 3), 10) == (made.weights.whole, made.weights.divisor)


def test_tensors_of_equal_weights_share_them():
    content = tensors(**{f"t{number}": (F16, (2,)) for number in range(9)})
    blocks = (("t1", HALVES), ("t[2-4]", tuple(HALVES)), ("t5", ALONE))
    made = make_plan(
        Recipe((Fraction(1), Fraction(2)), blocks=blocks), ["a.st", "b.st"], [content, content]
    )

    assert 3 == len({id(step.weights) for step in made.steps})


def test_an_ingredient_that_does_not_count_for_a_tensor_does_not_widen_it():
    recipe = Recipe((Fraction(1), Fraction(1)), blocks=(("w", ALONE),))
    contents = [tensors(v=(F16, ()), w=(F16, ())), tensors(v=(F32, ()), w=(F32, ()))]
    made = make_plan(recipe, ["a.st", "b.st"], contents)

    assert [F32, F16] == [step.out for step in made.steps]


def test_a_tensor_for_which_nothing_counts_is_refused():
    recipe = Recipe((Fraction(1),), blocks=(("w", (Fraction(0),)),))
    with pytest.raises(UsageError, match="the weights are all zero"):
        make_plan(recipe, ["a.st"], [tensors(w=(F16, ()))])


def test_floats_of_a_search_are_exact_weights():
    asked = (Fraction(0.9), Fraction(0.1), Fraction(2) ** -24)
    made = make_plan(Recipe(asked), ["a.st", "b.st", "c.st"], [tensors(w=(F16, ()))] * 3)

    assert [weight / sum(asked) for weight in asked] == [
        Fraction(number, made.weights.divisor) for number in made.weights.whole
    ]
