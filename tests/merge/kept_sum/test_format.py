"""The form that a sum takes, how it carries over, and what is written of it."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from blake3 import blake3
from hypothesis import assume, given
from hypothesis import strategies as st

from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType, index_dtype
from soupctl.format.header import Tensor
from soupctl.ledger.block_weights import WeightByBlock
from soupctl.ledger.weights import LARGEST, scaled
from soupctl.merge.kept_sum.format import (
    Facts,
    SumForm,
    copied_entry,
    encode_facts,
    expand_runs,
    is_sparse,
    parse_facts,
    plane_entries,
    planes_by_tensor,
    smallest_scale,
    sum_name,
    sum_update,
)

F32, F64, U32, U64 = DType.F32, DType.F64, DType.U32, DType.U64


def digest(text: str) -> str:
    return "blake3:" + blake3(text.encode()).hexdigest()


ROOT = digest("a root")
HALF = Fraction(1, 2)


def test_a_sum_is_named_after_its_soup_and_the_root_of_its_content():
    assert f"s.st.{ROOT[7:19]}.sum" == sum_name("s.st", {"": ROOT}, digest)
    assert f"s.{ROOT[7:19]}.sum" == sum_name("s", {"unet": ROOT}, digest)
    roots = {"vae": ROOT, "unet": digest("another")}
    name = sum_name("s", roots, digest)
    assert name == sum_name("s", dict(reversed(roots.items())), digest)
    exchanged = {"unet": ROOT, "vae": digest("another")}
    assert len({name, sum_name("s", exchanged, digest), f"s.{ROOT[7:19]}.sum"}) == 3


def test_places_are_as_wide_as_the_tensor_needs():
    assert [U32, U32, U32, U64] == [index_dtype(count) for count in (0, 1, 2**32, 2**32 + 1)]


@pytest.mark.parametrize(("count", "most"), [(3, 1), (300, 199), (2**32, (2**33 - 1) // 3)])
def test_a_plane_is_sparse_while_that_is_shorter(count, most):
    # four bytes of place and eight of value against eight of value
    assert is_sparse(count, most)
    assert not is_sparse(count, most + 1)


def test_wide_places_are_worth_it_below_half_of_the_elements():
    count = 2**33

    assert is_sparse(count, count // 2 - 1)
    assert not is_sparse(count, count // 2)
    assert not is_sparse(0, 0)


def test_the_planes_of_a_form_are_dense_or_sparse_each_for_itself():
    shape = (2, 6)
    form = SumForm(F64, (12, 8, 7))
    entries = [
        ("0:w", F64, shape),
        ("1:w", F64, shape),
        ("2:w", F64, shape),
        ("3i:w", U32, (7,)),
        ("3v:w", F64, (7,)),
    ]

    assert entries == plane_entries("w", shape, form)
    assert [("0:w", F32, ())] == plane_entries("w", (), SumForm(F32))
    assert ("c:w", DType.I64, (3,)) == copied_entry("w", DType.I64, (3,))
    wide = plane_entries("w", (2**33,), SumForm(F64, (5,)))
    assert [("0:w", F64, (2**33,)), ("1i:w", U64, (5,)), ("1v:w", F64, (5,))] == wide


names = st.text(max_size=8) | st.sampled_from(("0:", "c:w", "1i:w", ":", "w", "7v:"))


@given(
    st.dictionaries(
        names,
        st.none() | st.lists(st.integers(1, 12), max_size=7).map(tuple),
        max_size=6,
    )
)
def test_planes_are_found_again_under_any_name(forms):
    entries = {}
    for name, rest in forms.items():
        if rest is None:
            entries[name] = [copied_entry(name, DType.I64, (3,))]
        else:
            entries[name] = plane_entries(name, (12,), SumForm(F64 if rest else F32, rest))
    written = sorted(
        (entry for each in entries.values() for entry in each), key=lambda entry: entry[0]
    )
    found = planes_by_tensor(tensor(*entry) for entry in written)

    assert {name: [(t.name, t.dtype, t.shape) for t in found[name]] for name in found} == entries


def tensor(name: str, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, dtype, shape, 0, 0)


MALFORMED = {
    "no mark": [("w", F64, (3,))],
    "an unknown mark": [("x:w", F64, (3,))],
    "a ninth plane": [("0:w", F64, (3,)), ("8:w", F64, (3,))],
    "a mark of two digits": [("0:w", F64, (3,)), ("01:w", F64, (3,))],
    "no first plane": [("1:w", F64, (3,))],
    "a narrow first plane": [("0:w", DType.F16, (3,))],
    "a first plane of integers": [("0:w", DType.I64, (3,))],
    "a sparse first plane": [("0i:w", U32, (1,)), ("0v:w", F64, (1,))],
    "a first plane twice": [("0:w", F64, (3,)), ("0v:w", F64, (1,))],
    "a plane left out": [("0:w", F64, (3,)), ("2:w", F64, (3,))],
    "a plane of another shape": [("0:w", F64, (3,)), ("1:w", F64, (1, 3))],
    "a narrow further plane": [("0:w", F64, (3,)), ("1:w", F32, (3,))],
    "places without values": [("0:w", F64, (3,)), ("1i:w", U32, (1,))],
    "values without places": [("0:w", F64, (3,)), ("1v:w", F64, (1,))],
    "fewer values than places": [("0:w", F64, (3,)), ("1i:w", U32, (2,)), ("1v:w", F64, (1,))],
    "values in columns": [("0:w", F64, (3,)), ("1i:w", U32, (1, 1)), ("1v:w", F64, (1, 1))],
    "wide places": [("0:w", F64, (3,)), ("1i:w", U64, (1,)), ("1v:w", F64, (1,))],
    "narrow values": [("0:w", F64, (3,)), ("1i:w", U32, (1,)), ("1v:w", F32, (1,))],
    "dense and sparse": [
        ("0:w", F64, (3,)),
        ("1:w", F64, (3,)),
        ("1i:w", U32, (1,)),
        ("1v:w", F64, (1,)),
    ],
    "copied and summed": [("0:w", F64, (3,)), ("c:w", F64, (3,))],
}


@pytest.mark.parametrize("entries", MALFORMED.values(), ids=MALFORMED)
def test_tensors_that_no_sum_has_are_refused(entries):
    for order in (entries, entries[::-1]):
        with pytest.raises(ValueError, match=r"^'\w*:?w' "):
            planes_by_tensor(tensor(*entry) for entry in order)


def usual(*weights: Fraction | int) -> list[WeightByBlock]:
    return [WeightByBlock(Fraction(weight)) for weight in weights]


def test_a_sum_takes_on_a_weight_in_its_own_scale():
    # (a + b) with c twice and a third of b less: three times the sum, plus 6 c, minus b
    step = sum_update(Fraction(1), usual(2, Fraction(-1, 3)), usual(1, Fraction(2, 3), 2))

    assert step is not None
    assert (3, usual(6, -1), 3) == (step.factor, [*step.weights], step.scale)
    same = sum_update(
        Fraction(6), usual(Fraction(1, 3), Fraction(-1, 2)), usual(Fraction(1, 3), HALF)
    )
    assert same is not None
    assert (1, usual(2, -3), 6) == (same.factor, [*same.weights], same.scale)
    none = sum_update(HALF, [], usual(4))
    assert none is not None
    assert (1, (), HALF) == (none.factor, none.weights, none.scale)
    assert 2 == none.shrink(usual(4))


def test_one_scale_makes_the_weights_of_all_blocks_whole():
    by_block = WeightByBlock(Fraction(1), (HALF, Fraction(0)))
    step = sum_update(Fraction(1), [by_block], [by_block, *usual(1)])

    assert step is not None
    assert (2, 2) == (step.factor, step.scale)
    assert (WeightByBlock(Fraction(2), (Fraction(1), Fraction(0))),) == step.weights
    assert 1 == step.shrink([by_block, *usual(1)])
    assert 2 == smallest_scale([by_block, *usual(1)])
    assert Fraction(1, 3) == smallest_scale([WeightByBlock(Fraction(0), (Fraction(3),))])


@pytest.mark.parametrize(
    ("scale", "change", "total", "is_exact"),
    [
        (1, LARGEST, LARGEST, True),
        (1, LARGEST + 1, 1, False),
        (1, -LARGEST - 1, 1, False),
        (1, 1, LARGEST + 1, False),
        (1, Fraction(1, LARGEST), 1, True),
        (1, Fraction(1, LARGEST + 1), Fraction(1, LARGEST + 1), False),
        (1, Fraction(1, LARGEST), 2, False),
        (Fraction(1, 7), 7, 8, False),
        (Fraction(10**90), 1, 2, False),
    ],
)
def test_a_step_is_taken_only_in_numbers_that_stay_exact(scale, change, total, is_exact):
    found = sum_update(Fraction(scale), usual(change), usual(total))

    assert is_exact == (found is not None)


fractions = st.fractions(-3, 3, max_denominator=12).filter(bool)


@given(
    st.lists(st.tuples(fractions, st.integers(-8, 8)), min_size=1, max_size=5),
    st.lists(st.tuples(fractions, st.integers(-8, 8)), max_size=4),
)
def test_an_updated_sum_gives_the_sum_and_the_mean_of_all(before, changes):
    weights = [weight for weight, _ in before]
    total = sum(weights)
    left = total + sum(change for change, _ in changes)
    assume(total > 0)
    assume(left > 0)
    scale = smallest_scale(usual(*weights))
    assert scaled(weights) == tuple(weight * scale for weight in weights)
    kept = scale * sum(weight * value for weight, value in before)
    step = sum_update(scale, usual(*(change for change, _ in changes)), usual(left))

    assert step is not None
    values = [value for _, value in changes]
    whole = [each.usual for each in step.weights]
    carried = step.factor * kept + sum(w * x for w, x in zip(whole, values, strict=True))
    exact = sum(weight * value for weight, value in (*before, *changes))
    assert (step.scale * exact, exact / left) == (carried, carried / (left * step.scale))


def test_the_scale_is_the_smallest_factor_that_makes_weights_whole():
    assert 10 == smallest_scale(usual(Fraction(7, 10), Fraction(3, 10)))
    assert HALF == smallest_scale(usual(2, 4))
    assert 6 == smallest_scale(usual(Fraction(-1, 3), HALF))


def test_runs_are_spread_one_by_one_though_they_have_no_end():
    assert [F32, F32, F64] == list(expand_runs(((F32, 2), (F64, 1))))
    assert F32 is next(iter(expand_runs(((F32, 10**400),))))


FACTS = Facts(Fraction(3, 2), ROOT, (((F32, 2), (DType.I64, 1)), ((F64, 3),)))
LEDGER = '{"the text":"of a ledger"}'


def test_facts_read_back_as_they_were_written():
    text = encode_facts(FACTS, LEDGER, digest)

    assert FACTS == parse_facts(text, LEDGER, "s.sum", digest)
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert {"digest", "dtypes", "format", "ledger", "root", "scale"} == set(json.loads(text))


def test_facts_belong_to_one_ledger():
    text = encode_facts(FACTS, LEDGER, digest)
    with pytest.raises(LedgerError, match=r"s\.sum: its record of a sum was altered"):
        parse_facts(text, LEDGER + " ", "s.sum", digest)
