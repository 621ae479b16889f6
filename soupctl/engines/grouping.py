"""Weighted means prepared for the GPU kernels: rows grouped by dtype."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby

from ..format.dtypes import DType
from ..frozen import frozen
from ..kernels import tables
from ..kernels.gpu.layout import Group, MeanConfig, OutputFormat, weight_table
from .contract import WeightedMean
from .mean_tables import RANKS, format_table, is_bounded
from .splitting import NARROW_DIVISOR, split_weight


@frozen
class GroupedMean:
    """A weighted mean for the GPU kernels, with rows of the same dtype next to each other."""

    config: MeanConfig
    order: tuple[int, ...]
    """Indices of the sources."""
    widths: tuple[int, ...]
    """Bytes per element of each source."""
    rows: tuple[int, ...]
    """Which of these sources each row is: a weight that is too long takes several rows."""
    table: tuple[float, ...]
    """The rows' `weight_table`."""


@lru_cache(maxsize=64)
def grouped_mean(mean: WeightedMean) -> GroupedMean:
    """The mean with its rows grouped by dtype."""
    # float64 rows come last: the rounding error of a sum of narrower rows is usually zero, and that
    # of float64 rows counts as unknown
    order = sorted(range(len(mean.dtypes)), key=lambda row: -RANKS[mean.dtypes[row]])
    parts = [split_weight(mean.weights[source], mean.dtypes[source]) for source in order]
    rows = tuple(place for place, each in enumerate(parts) for _ in each)
    dtypes = [mean.dtypes[order[row]] for row in rows]
    groups = tuple(Group(dtype.value, len(list(run))) for dtype, run in groupby(dtypes))
    total = mean.total
    power = total & (total - 1) == 0
    wide = total > NARROW_DIVISOR
    # mixed dtypes use the proof, because their sums take three planes; a bound alone would not
    # decide the rounding
    bounded = len(groups) == 1 and is_bounded(mean) and not wide
    config = MeanConfig(groups, output_format(mean.out), power, wide, bounded)
    table = weight_table([part for each in parts for part in each], total)
    widths = tuple(mean.dtypes[source].bits // 8 for source in order)
    return GroupedMean(config, tuple(order), widths, rows, tuple(table))


def output_format(dtype: DType) -> OutputFormat:
    """The rounding parameters of an output dtype."""
    table = format_table(dtype)
    columns = (tables.PRECISION, tables.NORMAL, tables.LIMIT, tables.SIGN)
    return OutputFormat(dtype.bits, *(int(table[column]) for column in columns))
