"""Averages of any bit patterns, dtypes and weights are the mean in fractions, bit for bit."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

from deltas import numbers, rounded
from exact_means import combined
from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st
from making import contents, save_raw

from soupctl import verbs
from soupctl.engines.contract import NonFinite, OutOfRange, WeightedMean
from soupctl.engines.reference import ReferenceEngine, largest_code
from soupctl.errors import InputError, MismatchError, UsageError
from soupctl.format.dtypes import FLOATS, DType, narrowest
from soupctl.ledger.weights import scaled
from soupctl.verbs import ExecutionOptions, Ingredient, Request

Source = tuple[DType, list[int]]


def patterns(dtype: DType, size: int) -> st.SearchStrategy[list[int]]:
    """Bit patterns, most of them where rounding, underflow and overflow are near."""
    format = dtype.float_format
    top = 2 ** (dtype.bits - 1)
    largest, fraction = largest_code(format), 2 ** (format.precision - 1)
    one = largest_code(format) // fraction // 2 * fraction
    near = [0, 1, fraction - 1, fraction, fraction + 1, one - 1, one, one + 1, largest - 1, largest]
    magnitudes = st.sampled_from(near) | st.integers(0, largest) | st.integers(0, 3)
    signed = st.builds(lambda code, negative: code + top * negative, magnitudes, st.booleans())
    # any pattern at all now and then, infinities and NaN among them
    rare = st.integers(0, 2 * top - 1)
    code = st.integers(0, 19).flatmap(lambda turn: rare if turn == 0 else signed)
    return st.lists(code, min_size=size, max_size=size)


def sources(size: int) -> st.SearchStrategy[list[Source]]:
    one = st.sampled_from(sorted(FLOATS, key=lambda dtype: dtype.value)).flatmap(
        lambda dtype: st.tuples(st.just(dtype), patterns(dtype, size))
    )
    return st.lists(one, min_size=1, max_size=5)


wholes = st.integers(-3, 7).filter(bool) | st.just(2**16 + 1)
short = st.builds(Fraction, wholes, st.sampled_from((1, 1, 2, 3, 10)))
# decimals, floats of a search, float32 scales: five of them stay below 2**62
decimals = st.builds(Fraction, st.integers(-(10**16), 10**16), st.just(10**16)).filter(bool)
scales = st.floats(2.0**-20, 2.0**10, width=32).map(Fraction)
weights = short | decimals | scales


def raw(dtype: DType, codes: list[int]) -> bytes:
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)


def expected(
    found: list[Source], asked: list[Fraction], out: DType, *, nonfinite: bool
) -> bytes | type[Exception]:
    """What the contract says: bytes, or the kind of refusal."""
    bits = [raw(dtype, codes) for dtype, codes in found]
    if any(has_nonfinite(*source) for source in found):
        return by_reference([dtype for dtype, _ in found], bits, asked, out, nonfinite)
    total = sum(asked)
    values = [numbers(dtype, each) for (dtype, _), each in zip(found, bits, strict=True)]
    rows = [(weight / total, each) for weight, each in zip(asked, values, strict=True)]
    exact = rounded(combined(rows), out)
    return MismatchError if exact is None else exact


def has_nonfinite(dtype: DType, codes: list[int]) -> bool:
    top = 2 ** (dtype.bits - 1)
    return any(code % top > largest_code(dtype.float_format) for code in codes)


def by_reference(
    dtypes: list[DType], bits: list[bytes], asked: list[Fraction], out: DType, nonfinite: bool
) -> bytes | type[Exception]:
    """What the reference engine makes of infinities and NaN, which no fraction is."""
    weighted_mean = WeightedMean(tuple(dtypes), scaled(asked), out, nonfinite)
    size = len(bits[0]) * 8 // dtypes[0].bits
    made = memoryview(bytearray(size * out.bits // 8))
    try:
        ReferenceEngine().prepare(weighted_mean, list(map(memoryview, bits)))(0, size, made)
    except NonFinite:
        return InputError
    except OutOfRange:
        return MismatchError
    return bytes(made)


def average(
    found: list[Source], asked: list[Fraction], execution: ExecutionOptions, **options: object
) -> object:
    """What soupctl makes of it: bytes, or the kind of refusal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ingredients = []
        for number, ((dtype, codes), weight) in enumerate(zip(found, asked, strict=True)):
            tensor = (dtype.value, (len(codes),), raw(dtype, codes))
            # another length of the header for each, so that alignments differ
            path = save_raw(folder / f"{number}.st", {"w": tensor}, number)
            ingredients.append(Ingredient(path, weight))
        request = Request(ingredients, folder / "soup.st", **options)
        try:
            verbs.average(request, execution=execution)
        except (InputError, MismatchError, UsageError) as error:
            assert len(found) == len(list(folder.iterdir()))
            return type(error)
        return contents(folder / "soup.st")["w"][2]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Source], list[Fraction]]:
    found = draw(sources(draw(st.integers(1, 40))))
    asked = [draw(weights) for _ in found]
    if sum(asked) <= 0:
        asked = list(map(abs, asked))
    try:
        scaled(asked)
    except UsageError:
        # mixtures of all of them are too fine now and then
        reject()
    # what is in twice with weights that cancel is refused
    assume(all(_total(source, found, asked) for source in found))
    return found, asked


def has_both_signs(found: list[Source], asked: list[Fraction]) -> bool:
    """Whether one content is added as well as subtracted."""
    signs = {
        (dtype, tuple(codes), weight > 0)
        for (dtype, codes), weight in zip(found, asked, strict=True)
    }
    return len(signs) > len({(dtype, tuple(codes)) for dtype, codes in found})


def _total(source: Source, found: list[Source], asked: list[Fraction]) -> Fraction | int:
    return sum(weight for each, weight in zip(found, asked, strict=True) if each == source)


@settings(max_examples=250)
@given(cases(), st.none() | st.sampled_from(list(FLOATS)), st.booleans(), st.integers(1, 9))
@example(
    ([(DType.F64, [1]), (DType.F64, [2**63 + 1])], [Fraction(2), Fraction(-1)]), None, False, 1
)
@example(([(DType.F64, [0x7FEFFFFFFFFFFFFF])] * 3, [Fraction(1)] * 3), None, False, 1)
@example(([(DType.F16, [0x8000])] * 2, [Fraction(1)] * 2), None, False, 1)
def test_the_average_of_any_bits_is_the_mean_in_fractions(case, asked_dtype, nonfinite, chunk):
    found, asked = case
    out = asked_dtype or narrowest(frozenset(dtype for dtype, _ in found))
    made = average(
        found, asked, ExecutionOptions(1, chunk), dtype=asked_dtype, allow_nonfinite=nonfinite
    )
    mean = expected(found, asked, out, nonfinite=nonfinite)

    # infinity would not cancel as the weights of one content do
    refused = nonfinite and has_both_signs(found, asked)
    assert made == (UsageError if refused and isinstance(mean, bytes) else mean)


@settings(max_examples=60)
@given(cases(), st.randoms(), st.sampled_from((1, 7, None)))
def test_order_threads_and_chunks_do_not_show(case, random, chunk):
    found, asked = case
    before = average(found, asked, ExecutionOptions(1))
    pairs = list(zip(found, asked, strict=True))
    random.shuffle(pairs)
    after = average(
        [pair[0] for pair in pairs], [pair[1] for pair in pairs], ExecutionOptions(5, chunk)
    )

    # which of two refusals comes first may depend on the order of sources
    assert before == after or {type(before), type(after)} == {type}
