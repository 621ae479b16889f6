"""The reference engine: the contract in exact fractions, one element at a time, for tests.

Rule 1: nothing here is fast, and values are rounded once, in `encode`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import inf, isnan, nan

from ..format.dtypes import DType, FloatFormat
from ..frozen import frozen
from .contract import CodeSums, NonFinite, OutOfRange, Scales, WeightedMean
from .expansion import Expansion


@frozen
class ReferenceEngine:
    """Means computed as fractions."""

    name: str = "reference"

    def prepare(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> ReferenceCombine:
        """Bind the mean to its sources."""
        return ReferenceCombine(mean, tuple(sources), scales)

    def prepare_sum(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> Expansion:
        """Bind the sum to its sources."""
        return Expansion(self, mean, sources, scales)

    def prepare_largest(
        self, mean: WeightedMean, sources: Sequence[memoryview], scales: Scales | None = None
    ) -> ReferenceLargest:
        """Bind the mean to its sources."""
        return ReferenceLargest(ReferenceCombine(mean, tuple(sources), scales))

    def prepare_codes(
        self,
        mean: WeightedMean,
        scale: float,
        sources: Sequence[memoryview],
        scales: Scales | None = None,
    ) -> ReferenceQuantise:
        """Bind the mean and the scale of its codes to its sources."""
        return ReferenceQuantise(ReferenceCombine(mean, tuple(sources), scales), Fraction(scale))

    def narrow(self, plane: memoryview, out: memoryview) -> bool:
        """Element by element."""
        same = True
        for element in range(len(plane) // 8):
            value = decode(
                int.from_bytes(plane[8 * element : 8 * element + 8], "little"), DType.F64
            )
            code = encode(value, DType.F32)
            same = same and code is not None and decode(code, DType.F32) == value
            out[4 * element : 4 * element + 4] = (code or 0).to_bytes(4, "little")
        return same


@frozen
class ReferenceCombine:
    """A mean bound to its sources."""

    mean: WeightedMean
    sources: tuple[memoryview, ...]
    scales: Scales | None = None

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> None:
        """Write elements `start` to `stop` of the mean into `out`."""
        width = self.mean.out.bits // 8
        for element in range(start, stop):
            place = (element - start) * width
            out[place : place + width] = self.bits_at(element, origin).to_bytes(width, "little")

    def bits_at(self, element: int, origin: int) -> int:
        """The bits of one element of the mean; raises NonFinite or OutOfRange."""
        code = encode(self.exact_at(element, origin), self.mean.out)
        if code is None:
            raise OutOfRange(element)
        return code

    def exact_at(self, element: int, origin: int) -> Fraction | float:
        """One element of the mean before it is rounded; raises NonFinite."""
        values = [self.value(source, element, origin) for source in range(len(self.sources))]
        infinite = [source for source, value in enumerate(values) if isinstance(value, float)]
        if infinite and not self.mean.allow_nonfinite:
            raise NonFinite(infinite[0], element)
        # finite terms do not matter if there is an infinity or a NaN
        counted = infinite or range(len(values))
        total = sum(self.mean.weights[source] * values[source] for source in counted)
        return total / self.mean.total

    def value(self, source: int, element: int, origin: int) -> Fraction | float:
        """One element of one source, times its scale."""
        dtype = self.mean.dtypes[source]
        width = dtype.bits // 8
        code = self.sources[source][element * width : (element + 1) * width]
        value = decode(int.from_bytes(code, "little"), dtype)
        if self.scales is None:
            return value
        place = self.scales.block_of(origin + element) * len(self.sources) + source
        factor: float = self.scales.factors.cast("B").cast("d")[place]
        return value * (factor if isinstance(value, float) else Fraction(factor))


@frozen
class ReferenceLargest:
    """A mean whose largest magnitude is found."""

    combine: ReferenceCombine

    def __call__(self, start: int, stop: int, origin: int = 0) -> float:
        """The largest magnitude of elements `start` to `stop` of the mean."""
        means = exact_means(self.combine, start, stop, origin)
        return max((as_double(mean, element) for element, mean in means), default=0.0)


@frozen
class ReferenceQuantise:
    """A mean and the scale of its codes."""

    combine: ReferenceCombine
    scale: Fraction

    def __call__(self, start: int, stop: int, out: memoryview, origin: int = 0) -> CodeSums:
        """Write the codes of elements `start` to `stop` into `out`."""
        largest, squares, sizes = 0.0, Fraction(0), Fraction(0)
        dtype = self.combine.mean.out
        for element, mean in exact_means(self.combine, start, stop, origin):
            code = encode(mean / self.scale, dtype)
            if code is None:
                raise OutOfRange(element)
            out[element - start] = code
            value = decode(code, dtype)
            assert isinstance(value, Fraction)
            largest = max(largest, as_double(mean, element))
            squares += (value * self.scale - mean) ** 2
            sizes += mean**2
        return CodeSums(largest, float(squares), float(sizes))


def exact_means(
    combine: ReferenceCombine, start: int, stop: int, origin: int
) -> Iterator[tuple[int, Fraction]]:
    """Elements `start` to `stop` of a mean before they are rounded; raises NonFinite."""
    for element in range(start, stop):
        mean = combine.exact_at(element, origin)
        assert isinstance(mean, Fraction)
        yield element, mean


def as_double(mean: Fraction, element: int) -> float:
    """The magnitude of a mean, rounded to F64; raises OutOfRange."""
    try:
        return abs(float(mean))
    except OverflowError:
        raise OutOfRange(element) from None


def decode(code: int, dtype: DType) -> Fraction | float:
    """The value of a bit pattern: a fraction if it is finite, else inf, -inf or nan."""
    format = dtype.float_format
    fraction_bits = format.precision - 1
    negative, magnitude = divmod(code, 1 << (dtype.bits - 1))
    sign = -1 if negative else 1
    largest = largest_code(format)
    if magnitude > largest:
        infinite = format.has_infinity and magnitude == largest + 1
        return sign * inf if infinite else nan
    exponent, fraction = divmod(magnitude, 1 << fraction_bits)
    significand = fraction + (1 << fraction_bits if exponent else 0)
    return sign * significand * power_of_two(format.quantum + max(exponent - 1, 0))


def encode(value: Fraction | float, dtype: DType) -> int | None:
    """The bit pattern of the nearest value, ties to even; None if it is out of range."""
    format = dtype.float_format
    sign = 1 << (dtype.bits - 1) if value < 0 else 0
    if isinstance(value, float):
        if isnan(value):
            return format.quiet_nan
        return sign + largest_code(format) + 1 if format.has_infinity else None
    magnitude = round_magnitude(abs(value), format)
    return sign + magnitude if magnitude <= largest_code(format) else None


def round_magnitude(value: Fraction, format: FloatFormat) -> int:
    """The pattern of the nearest value, as if the exponent range were unlimited."""
    if value == 0:
        return 0
    # the exponent of the highest bit of the value, or one more
    highest = value.numerator.bit_length() - value.denominator.bit_length()
    if value < power_of_two(highest):
        highest -= 1
    exponent = max(highest - (format.precision - 1), format.quantum)
    # Python rounds a fraction with ties to even
    significand = round(value / power_of_two(exponent))
    return significand + ((exponent - format.quantum) << (format.precision - 1))


def power_of_two(exponent: int) -> Fraction:
    """2**exponent, exactly."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def largest_code(format: FloatFormat) -> int:
    """The pattern of the largest finite value."""
    return round_magnitude(format.largest, format)
