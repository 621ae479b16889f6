"""A kept sum with updates made of factors is the exact one, in the planes that any engine gives."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from update_trees import drawn, placed_trees, tree

from soupctl.engines import update_sum
from soupctl.engines.contract import NonFinite, WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.distillation import distilled
from soupctl.engines.placed_updates import PlacedUpdate
from soupctl.engines.reference import decode, encode
from soupctl.engines.update_sum import UpdatedSum
from soupctl.engines.updates import Hadamard, Kronecker, Matrix, Product, Update
from soupctl.format.dtypes import DType

KINDS = ["lora", "full", "tucker", "loha", "lokr"]


def nearest(value):
    """The float64 nearest to a fraction."""
    return decode(encode(value, DType.F64), DType.F64)


def expansion(value):
    """The nearest float64, that of the remainder, and so on."""
    found = [nearest(value)]
    while found[-1]:
        found.append(nearest(value - sum(found)))
    return found[:-1]


def made(raws, mean, placed, columns, count, chunk):
    """The planes of all elements, computed chunk by chunk: one list of fractions for each."""
    updated = UpdatedSum(CpuEngine(), mean, [memoryview(raw) for raw in raws], placed, columns)
    found = []
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        first = np.empty(stop - start)
        others = updated(start, stop, first.data.cast("B"))
        planes = [first, *(np.frombuffer(other, np.float64) for other in others)]
        for values in zip(*planes, strict=True):
            assert not any(np.signbit(value) and value == 0 for value in values)
            listed = [Fraction(float(value)) for value in values]
            while listed and not listed[-1]:
                listed.pop()
            found.append(listed)
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32), wild=st.booleans())
@settings(max_examples=40)
def test_every_element_has_the_planes_of_the_exact_sum(kind, seed, wild):
    random = Random(seed)
    rows, columns = 2 * random.randint(1, 3), 4 * random.randint(1, 2)
    count = rows * columns
    dtypes = random.choice([(DType.F16,), (DType.BF16, DType.F32), (DType.F32, DType.F8_E4M3)])
    weights = tuple(random.choice([1, 8, 3, 2**40 + 1]) for _ in dtypes)
    sources = [drawn(random, dtype, count, wild=wild) for dtype in dtypes]
    update, exact = tree(random, kind, rows, columns, wild=wild)
    weight = random.choice([1, -3, 7 * 2**30, 2**20])
    mean = WeightedMean(dtypes, weights, DType.F64, divisor=1)

    found = made(
        [raw for raw, _ in sources],
        mean,
        [PlacedUpdate(update, weight, 0, rows, 0)],
        columns,
        count,
        random.randint(1, count),
    )

    for element in range(count):
        total = weight * exact[element // columns][element % columns]
        total += sum(w * v[element] for w, (_, v) in zip(weights, sources, strict=True))
        assert expansion(total) == found[element]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_planes_of_a_kept_sum_and_several_updates_add_up(seed):
    random = Random(seed)
    rows, columns = 6, 4
    planes = [
        [Fraction(random.randint(-(2**52), 2**52), 2**50 * size) for _ in range(rows * columns)]
        for size in (1, 2**53)
    ]
    raws = [np.array([*map(float, plane)]).tobytes() for plane in planes]
    mean = WeightedMean((DType.F64,) * 2, (5, 5), DType.F64, divisor=1)
    placed, updates = placed_trees(random, columns)

    found = made(raws, mean, placed, columns, rows * columns, 5)

    for element, listed in enumerate(found):
        row, column = divmod(element, columns)
        total = sum(5 * plane[element] for plane in planes)
        for exact, weight, target in updates:
            if target <= row < target + len(exact):
                total += weight * exact[row - target][column]
        assert expansion(total) == listed


def few(random, *shape):
    return random.normal(0, 0.02, shape).astype(np.float16).astype(np.float64)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_usual_factors_are_multiplied_by_rows_and_added_without_an_engine(kind, monkeypatch):
    random = np.random.default_rng(0)
    updates = {
        "lora": Product(Matrix(few(random, 64, 8)), Matrix(few(random, 8, 96))),
        "loha": Hadamard(
            *(Product(Matrix(few(random, 64, 4)), Matrix(few(random, 4, 96))) for _ in range(2))
        ),
        "lokr": Kronecker(
            Matrix(few(random, 8, 8)),
            Product(Matrix(few(random, 8, 4)), Matrix(few(random, 4, 12))),
        ),
    }
    update: Update = updates[kind]
    base = random.normal(0, 0.05, 64 * 96).astype(np.float16)
    mean = WeightedMean((DType.F16,), (3,), DType.F64, divisor=1)
    placed = [PlacedUpdate(update, 2, 0, 64, 0)]
    slow = made([base.tobytes()], mean, placed, 96, 96, 7)

    def refuse(*_):
        raise AssertionError("computed element by element")

    monkeypatch.setattr(update_sum, "exact_terms", refuse)
    monkeypatch.setattr(CpuEngine, "prepare_sum", refuse)
    assert slow == made([base.tobytes()], mean, placed, 96, 64 * 96, 1000)[:96]


def test_values_beyond_the_usual_sizes_are_left_to_the_engine():
    assert distilled([(np.array([2.0**901]), 1)]) is None
    assert distilled([(np.array([2.0**-901]), 3)]) is None
    assert distilled([(np.array([np.nan]), 1)]) is None
    assert distilled([(np.array([1.0]), 2**53 + 1)]) is None


def test_half_a_unit_with_more_behind_it_is_told():
    one, half = np.array([1.0, 1.0, 1.0]), np.array([2.0**-53, 2.0**-53, 2.0**-54])
    rest = np.array([2.0**-120, 0.0, 2.0**-120])

    planes, ties = distilled([(one, 1), (half, 1), (rest, 1)])

    assert [0] == ties.tolist()
    assert one.tolist() == planes[0].tolist()


def test_a_tie_with_more_behind_it_is_the_engines():
    base = np.array([1.0, 1.0], np.float32)
    # 2**-53 + 2**-120 and its negative
    update = Hadamard(
        Product(
            Matrix(np.array([[1.0, 1.0]])), Matrix(np.array([[2.0**-26, 2.0**-27]] * 1).T * [1, 1])
        ),
        Matrix(np.array([[2.0**-27, 2.0**-27]])),
    )
    mean = WeightedMean((DType.F32,), (1,), DType.F64, divisor=1)
    tail = Product(Matrix(np.array([[2.0**-60]])), Matrix(np.array([[2.0**-60, -(2.0**-60)]])))
    placed = [PlacedUpdate(update, 1, 0, 1, 0), PlacedUpdate(tail, 1, 0, 1, 0)]
    total = (Fraction(2) ** -26 + Fraction(2) ** -27) * Fraction(2) ** -27
    ends = [1 + total + sign * Fraction(2) ** -120 for sign in (1, -1)]

    found = made([base.tobytes()], mean, placed, 2, 2, 2)

    assert [expansion(end) for end in ends] == found


def test_nan_in_a_source_is_found_at_its_element():
    base = np.array([1.0, np.nan, 1.0, 1.0], np.float32)
    mean = WeightedMean((DType.F32,), (1,), DType.F64, divisor=1)
    placed = [PlacedUpdate(Matrix(np.ones((2, 2))), 1, 0, 2, 0)]

    with pytest.raises(NonFinite) as refused:
        made([base.tobytes()], mean, placed, 2, 4, 4)

    assert (0, 1) == (refused.value.source, refused.value.element)
