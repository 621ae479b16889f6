"""The tables that compiled kernels read for a mean: numbers, and addresses of other tables.

Rule 1: tables hold no data, and no address of a source.
Rule 2: importing this module does not load numpy, which only scaled sources need.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from ..format.dtypes import DType
from ..kernels import tables
from .addresses import address
from .contract import Scales, WeightedMean
from .native import native_address
from .splitting import NARROW_DIVISOR, SCALE_BITS, split_weight

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Factors = list[float] | NDArray[np.float64]

# rows of one dtype lie together, in this order
RANKS = {DType(name): rank for rank, name in enumerate(tables.ROW_NAMES)}

SINGLE_DTYPES = (DType.F16, DType.BF16)


class MeanTables:
    """The tables that compiled code reads about a mean, apart from the addresses of its sources."""

    def __init__(
        self, mean: WeightedMean, scales: Scales | None = None, scale: float = 1.0
    ) -> None:
        """`scale` is that of codes, which the mean is divided by before it is rounded."""
        ranks = [RANKS[dtype] for dtype in mean.dtypes]
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        factors = None if scales is None else factors_of(scales, len(ranks))
        parts = [
            (row, part)
            for row in order
            for part in split_weight(
                mean.weights[row], mean.dtypes[row], is_scaled=is_scaled(factors, row)
            )
        ]
        self.rows = [row for row, _ in parts]
        self.width = mean.out.bits // 8
        sources = array("q", self.rows)
        weights = array("d", [part for _, part in parts])
        bounded = is_bounded(mean) if factors is None else is_bounded_scaled(mean, factors)
        add = "sums.add_bounded" if bounded else "sums.add_proved"
        groups = group_table([mean.dtypes[row] for row in self.rows], add)
        unit = array("d", [1.0])
        factor, exponent = significand_of(scale)
        layout = format_table(mean.out, exponent)
        self.table = table = array("q", bytes(8 * tables.MEAN_LENGTH))
        table[tables.GROUPS], table[tables.GROUP_COUNT] = address(groups), len(groups) // 3
        table[tables.WEIGHTS], table[tables.SOURCES] = address(weights), address(sources)
        table[tables.WEIGHT], table[tables.ALLOWED] = mean.total, mean.allow_nonfinite
        wide = mean.total > NARROW_DIVISOR
        divisor = mean.total * factor
        table[tables.FACTOR], table[tables.DIVISOR] = factor, float_bits(float(divisor))
        table[tables.REST] = float_bits(float(divisor - int(float(divisor))))
        table[tables.FORMAT], table[tables.FINISH] = address(layout), finish_address(mean.out, wide)
        table[tables.UNIT] = address(unit)
        if scales is None and (singles := singles_kernel(mean)):
            table[tables.SINGLES] = native_address(singles, mean.out.value)
            table[tables.SINGLE_ROWS] = len(self.rows)
        if scales is not None and factors is not None:
            # exact: of the bits of a weight and its scale, a product with an element leaves room
            weights = products(weights, [factors[row] for row in self.rows])
            table[tables.WEIGHTS], table[tables.WEIGHT_COUNT] = address(weights), len(self.rows)
            table[tables.COLUMNS], table[tables.RUN] = scales.columns, scales.block[1]
            table[tables.GROUP_ROWS] = scales.block[0]
        self._kept = (sources, weights, groups, unit, layout)


# most tensors of a checkpoint have the same mean
mean_tables = lru_cache(maxsize=64)(MeanTables)


def is_bounded(mean: WeightedMean) -> bool:
    """Whether every partial sum of products fits a float64, whatever the elements are."""
    shares = dict.fromkeys(mean.dtypes, 0)
    for dtype, weight in zip(mean.dtypes, mean.weights, strict=True):
        shares[dtype] += abs(weight)
    largest = sum(share * dtype.float_format.largest for dtype, share in shares.items())
    quantum = min(dtype.float_format.quantum for dtype in shares)
    return largest <= Fraction(2) ** (53 + quantum)


def singles_kernel(mean: WeightedMean) -> str | None:
    """The kernel for which arithmetic of float32 may be enough for the mean; None without one."""
    few = max(mean.total, *map(abs, mean.weights)) <= tables.SINGLE_WEIGHT
    if not few or mean.out not in SINGLE_DTYPES or len(mean.dtypes) < 2:
        return None
    sums = [row for row, dtype in enumerate(mean.dtypes) if dtype is not mean.out]
    if not sums:
        return "singles.mean_singles"
    weight = abs(mean.weights[sums[0]])
    # the product of a float32 and a power of two is exact
    is_exact = weight & (weight - 1) == 0
    if len(sums) == 1 and mean.dtypes[sums[0]] is DType.F32 and is_exact:
        return "singles.mean_with_sum"
    return None


def factors_of(scales: Scales, count: int) -> list[Factors]:
    """The factors of each of `count` sources, by blocks."""
    if len(scales.factors) == count:
        # importing numpy takes longer than many a merge of tensors with one scale each
        return [[factor] for factor in scales.factors.tolist()]
    import numpy as np

    return list(np.frombuffer(scales.factors, np.float64).reshape(-1, count).T)


def products(weights: Sequence[float], factors: Sequence[Factors]) -> array[float]:
    """The weight of each row times its factor, for each block."""
    if len(factors[0]) == 1:
        pairs = zip(weights, factors, strict=True)
        return array("d", [weight * factor for weight, (factor,) in pairs])
    import numpy as np

    return array("d", (np.stack(factors, axis=1) * np.asarray(weights)).tobytes())


def range_of(factors: Factors) -> tuple[float, float]:
    """The smallest magnitude of factors other than zero, infinite without any, and the largest."""
    if len(factors) == 1:
        size = abs(factors[0])
        return size or math.inf, size
    import numpy as np

    sizes = np.abs(factors)
    return float(sizes.min(where=sizes > 0, initial=math.inf)), float(sizes.max())


def is_scaled(factors: Sequence[Factors] | None, source: int) -> bool:
    """Whether any element of a source has a factor other than 1."""
    if factors is None:
        return False
    own = factors[source]
    if len(own) == 1:
        return own[0] != 1.0
    import numpy as np

    return not bool(np.all(np.equal(own, 1.0)))


def is_bounded_scaled(mean: WeightedMean, factors: Sequence[Factors]) -> bool:
    """`is_bounded` with scales: by the largest, and by the lowest bit of the smallest."""
    largest, quantum = Fraction(0), math.inf
    for source, (dtype, weight) in enumerate(zip(mean.dtypes, mean.weights, strict=True)):
        least, most = range_of(factors[source])
        if most == 0.0:
            continue
        largest += abs(weight) * Fraction(most) * dtype.float_format.largest
        exponent = math.frexp(least)[1] - SCALE_BITS if is_scaled(factors, source) else 0
        quantum = min(quantum, dtype.float_format.quantum + exponent)
    return largest <= Fraction(2) ** int(53 + quantum) if largest else True


def group_table(dtypes: Sequence[DType], add: str) -> array[int]:
    """For each run of equal dtypes: the address of its sum, its first row, and its end."""
    groups = array("q")
    for dtype, run in groupby(enumerate(dtypes), key=lambda row: row[1]):
        rows = [index for index, _ in run]
        compiled = native_address(add, dtype.value)
        groups.extend((compiled, rows[0], rows[-1] + 1))
    return groups


def significand_of(scale: float) -> tuple[int, int]:
    """The odd whole number, and the power of two, whose product a scale is."""
    top, bottom = scale.as_integer_ratio()
    zeros = (top & -top).bit_length() - 1
    return top >> zeros, zeros - (bottom.bit_length() - 1)


@cache
def format_table(dtype: DType, shift: int = 0) -> array[int]:
    """The parameters of an output dtype, laid out as in `kernels.tables`.

    Its values are times 2**shift, which is 1 but for codes.
    """
    format = dtype.float_format
    fraction = format.precision - 1
    exponent = math.frexp(format.largest)[1]
    smallest = math.ldexp(1.0, format.quantum + fraction + shift)
    # IEEE formats use all exponents but the last; E4M3 uses the last too, but for its last pattern
    largest = int(format.largest / Fraction(2) ** (exponent - format.precision))
    encoded = largest + ((exponent - format.precision - format.quantum) << fraction)
    table = array("q", bytes(8 * tables.FORMAT_LENGTH))
    table[tables.PRECISION], table[tables.QUANTUM] = format.precision, format.quantum + shift
    table[tables.NORMAL] = float_bits(smallest)
    table[tables.LIMIT] = last_in_range(dtype, largest, exponent + shift)
    table[tables.LARGEST] = encoded
    table[tables.INFINITY] = encoded + 1 if format.has_infinity else 0
    table[tables.QUIET_NAN] = format.quiet_nan
    table[tables.SIGN] = -1 << (dtype.bits - 1)
    table[tables.WIDTH] = dtype.bits // 8
    return table


def last_in_range(dtype: DType, significand: int, exponent: int) -> int:
    """The bits of the largest float64 that rounds to the largest value or below."""
    if dtype is DType.F64:
        return float_bits(sys.float_info.max)
    beyond = math.ldexp(2 * significand + 1, exponent - dtype.float_format.precision - 1)
    # half-way goes to the even neighbour
    return float_bits(beyond) - significand % 2


def float_bits(value: float) -> int:
    """The 64 bits of a float64."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return int(bits)


@cache
def finish_address(dtype: DType, wide: bool) -> int:
    """The address of the compiled division and rounding to `dtype`; `wide` for large divisors."""
    finish = "wide_rounding.finish_wide" if wide else "rounding.finish"
    return native_address(finish, str(dtype.bits))
