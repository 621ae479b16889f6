"""Weighted means prepared for the GPU kernels: rows grouped by dtype."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from ..format.dtypes import DType
from ..kernels import tables
from ..kernels.gpu.layout import Group, MeanConfig, OutputFormat, weight_table
from .contract import WeightedMean
from .cpu import RANKS, format_table, is_bounded


@dataclass(frozen=True, slots=True)
class GroupedMean:
    """A weighted mean for the GPU kernels, with rows of the same dtype next to each other."""

    config: MeanConfig
    order: tuple[int, ...]
    """Index of the source of each row."""
    widths: tuple[int, ...]
    """Bytes per element of each row."""
    table: tuple[float, ...]
    """The rows' `weight_table`."""


@lru_cache(maxsize=64)
def grouped_mean(mean: WeightedMean) -> GroupedMean:
    """The mean with its rows grouped by dtype."""
    # doubles last: what a sum of narrower rows leaves out is seldom anything, and counts as unknown
    order = sorted(range(len(mean.dtypes)), key=lambda row: -RANKS[mean.dtypes[row]])
    dtypes = [mean.dtypes[row] for row in order]
    groups = tuple(Group(dtype.value, len(list(run))) for dtype, run in groupby(dtypes))
    total = mean.total
    power = total & (total - 1) == 0
    # mixtures are proved, because their sums are three in memory
    bounded = len(groups) == 1 and is_bounded(mean)
    config = MeanConfig(groups, output_format(mean.out), power, bounded)
    table = weight_table([mean.weights[row] for row in order], total)
    return GroupedMean(
        config, tuple(order), tuple(dtype.bits // 8 for dtype in dtypes), tuple(table)
    )


def output_format(dtype: DType) -> OutputFormat:
    """The rounding parameters of an output dtype."""
    table = format_table(dtype)
    columns = (tables.PRECISION, tables.NORMAL, tables.LIMIT, tables.SIGN)
    return OutputFormat(dtype.bits, *(int(table[column]) for column in columns))
