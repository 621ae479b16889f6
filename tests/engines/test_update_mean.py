"""A mean with updates made of factors is the exact one, rounded once, whatever its elements are."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from update_trees import STORED, drawn, placed_trees, tree

from soupctl.engines.contract import NonFinite, OutOfRange, WeightedMean
from soupctl.engines.reference import encode
from soupctl.engines.update_mean import PlacedUpdate, UpdatedMean
from soupctl.engines.updates import Core, Hadamard, Matrix, Product
from soupctl.format.dtypes import DType

PAIRS = [
    # the dtypes of a base and of a result; each pair is compiled once
    *((dtype, dtype) for dtype in (DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3)),
    *((DType.F16, DType.F32), (DType.F32, DType.BF16), (DType.F8_E5M2, DType.F16)),
    (DType.F32, DType.F64),
]


def expected(base, updates, mean, columns):
    """The bytes by fractions: each update as (its exact rows, weight, first target row)."""
    out = b""
    for element in range(len(base[0])):
        total = sum(weight * row[element] for weight, row in zip(mean.weights, base, strict=False))
        row, column = divmod(element, columns)
        for exact, weight, target in updates:
            if target <= row < target + len(exact):
                total += weight * exact[row - target][column]
        code = encode(Fraction(total, 1) / mean.total, mean.out)
        if code is None:
            return element
        out += code.to_bytes(mean.out.bits // 8, "little")
    return out


def made(mean, raws, placed, columns, count, chunk):
    """The bytes that the engine makes, chunk by chunk, or the element that is out of range."""
    updated = UpdatedMean(mean, [memoryview(raw) for raw in raws], placed, columns)
    width = mean.out.bits // 8
    out = bytearray(count * width)
    try:
        for start in range(0, count, chunk):
            stop = min(start + chunk, count)
            updated(start, stop, memoryview(out)[start * width : stop * width])
    except OutOfRange as found:
        return found.element
    return bytes(out)


@pytest.mark.parametrize("kind", ["lora", "full", "tucker", "loha", "lokr"])
@given(seed=st.integers(0, 2**32), wild=st.booleans())
@settings(max_examples=40)
def test_every_element_is_the_exact_one_rounded_once(kind, seed, wild):
    random = Random(seed)
    rows, columns = 2 * random.randint(1, 3), 4 * random.randint(1, 2)
    dtype, out = random.choice(PAIRS)
    raw, base = drawn(random, dtype, rows * columns, wild=wild)
    weight, divisor = random.choice([(1, 1), (3, 4), (2**40 + 1, 10**9), (-7, 5)])
    update, exact = tree(random, kind, rows, columns, wild=wild)
    mean = WeightedMean((dtype,), (divisor,), out, divisor=divisor)
    placed = [PlacedUpdate(update, weight, 0, rows, 0)]

    found = made(mean, [raw], placed, columns, rows * columns, random.randint(1, rows * columns))

    assert expected([base], [(exact, weight, 0)], mean, columns) == found


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_several_updates_and_sources_add_up_before_the_one_rounding(seed):
    random = Random(seed)
    rows, columns = 6, 4
    first, out = random.choice(PAIRS[1:])
    dtypes = (first, *random.choices(STORED, k=random.randint(0, 2)))
    drawn_rows = [drawn(random, dtype, rows * columns, wild=False) for dtype in dtypes]
    mean = WeightedMean(
        dtypes, (15, *(random.choice([-4, 3]) for _ in dtypes[1:])), out, divisor=15
    )
    placed, updates = placed_trees(random, columns)

    found = made(mean, [raw for raw, _ in drawn_rows], placed, columns, rows * columns, 5)

    assert expected([values for _, values in drawn_rows], updates, mean, columns) == found


@pytest.mark.parametrize(
    ("dtype", "most"), [(DType.F32, 100), (DType.F16, 9999), (DType.BF16, 9999)]
)
def test_few_elements_need_their_exact_products(dtype, most, monkeypatch):
    """The bound decides all but one in `most`, or the exact path would set the time.

    Products of F16 factors are multiples of a power of two, and ties with F32 are not so rare.
    """
    rng = np.random.default_rng(0)
    half = np.float16
    up, down = (
        rng.normal(0, 0.05, shape).astype(half).astype(float) for shape in ((256, 64), (64, 320))
    )
    base = rng.normal(0, 0.05, 256 * 320).astype(np.float32)
    raw = {
        DType.F32: base.tobytes(),
        DType.F16: base.astype(half).tobytes(),
        DType.BF16: (base.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
    }[dtype]
    exact, asked = Product.exact, []
    monkeypatch.setattr(
        Product,
        "exact",
        lambda self, rows, columns: asked.append(len(rows)) or exact(self, rows, columns),
    )
    placed = [PlacedUpdate(Product(Matrix(up), Matrix(down)), 4, 0, 256, 0)]
    mean = WeightedMean((dtype,), (5,), dtype, divisor=5)

    made(mean, [raw], placed, 320, base.size, 16384)

    assert sum(asked) <= base.size // most


def test_the_sums_of_a_tie_go_to_the_even_neighbour_and_a_zero_has_no_sign():
    one = np.ones((1, 1))
    tie = np.array([[2.0**-11, 3 * 2.0**-11, -1.0, 0.0]])
    base = np.array([1.0, 1.0, 1.0, -0.0], np.float16)
    placed = [PlacedUpdate(Product(Matrix(one), Matrix(tie)), 1, 0, 1, 0)]
    mean = WeightedMean((DType.F16,), (1,), DType.F16, divisor=1)

    found = made(mean, [base.tobytes()], placed, 4, 4, 4)

    assert np.array([1.0, 1.0 + 2.0**-9, 0.0, 0.0], np.float16).tobytes() == found


def test_nan_in_a_source_is_found_at_its_element():
    base = np.array([1.0, np.nan, 1.0, np.inf], np.float32)
    placed = [PlacedUpdate(Matrix(np.ones((2, 2))), 1, 0, 2, 0)]
    mean = WeightedMean((DType.F32,), (1,), DType.F32, divisor=1)

    with pytest.raises(NonFinite) as refused:
        made(mean, [base.tobytes()], placed, 2, 4, 4)

    assert (0, 1) == (refused.value.source, refused.value.element)


def test_factors_with_mismatched_sides_are_refused():
    two, three = np.ones((2, 2)), np.ones((3, 3))

    with pytest.raises(ValueError, match="do not multiply"):
        Product(Matrix(two), Matrix(three))
    with pytest.raises(ValueError, match="do not multiply"):
        Core(two.reshape(1, 2, 2), three)
    with pytest.raises(ValueError, match="not the same"):
        Hadamard(Matrix(two), Matrix(three))
