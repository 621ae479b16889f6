"""out = round(sum_j w_j * x_j / W), or the sum itself, over a range of elements, tile by tile.

Rule 1: a tile is summed, then divided and rounded; what stays in doubt is resolved by integers.
Rule 2: tiles and elements go in order, so a failure is that of the lowest failing element.
Rule 3: every row type and output format is compiled apart and called by its address: a mixture of
types needs no kernel of its own.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core.typing import Signature
from numba.extending import register_jitable

from . import tables
from .floats import MAGNITUDE, float_of, floats_at, integers_at, invoke
from .sums import DOUBT, FLOATS, INTEGERS, LOW, SIZE
from .tables import DONE, RESULT, ROW, ROW_WEIGHTS, TILE, UNRESOLVED

BYTES = types.CPointer(types.uint8)


def signature() -> Signature:
    """The signature of `combine`."""
    whole = types.int64
    return types.int64(INTEGERS, whole, whole, whole, BYTES, FLOATS, INTEGERS)


def sum_signature() -> Signature:
    """The signature of `accumulate`."""
    whole = types.int64
    return types.int64(INTEGERS, whole, whole, whole, FLOATS, FLOATS)


SIGNATURES = {"combine": signature, "accumulate": sum_signature}


def combine(mean, origin, start, stop, out, tile, scratch):  # type: ignore[no-untyped-def]
    """Put elements `start` to `stop` at `out`; DONE, or the status of a failure.

    Scales are those of the elements from `origin` on. On a failure the element is left in
    `scratch[ROW]`, its result in `scratch[RESULT]`.
    """
    # the bounds of the sums do not apply to these elements
    for i in range(TILE):
        tile[LOW + i], tile[SIZE + i] = 0.0, 0.0
    place = start
    while place < stop:
        weights, left = weights_of(mean, origin + place)
        length = min(TILE, stop - place, left)
        if is_single(mean, weights, place, length, out, place - start, tile):
            place += length
            continue
        if sum_and_finish(mean, weights, place, length, out, place - start, tile):
            scratch[ROW_WEIGHTS] = weights
            status = resolve_doubts(mean, place, length, out, place - start, tile, scratch)
            if status != DONE:
                return status
        place += length
    return DONE


def accumulate(mean, origin, start, stop, out, tile):  # type: ignore[no-untyped-def]
    """Put the float64 sums of elements `start` to `stop` at `out`; 0 if these are proved exact."""
    for i in range(TILE):
        tile[LOW + i], tile[SIZE + i] = 0.0, 0.0
    place = start
    while place < stop:
        weights, left = weights_of(mean, origin + place)
        length = min(TILE, stop - place, left)
        add_rows(mean, weights, place, length, tile)
        inexact = 0
        for i in range(length):
            total = tile[i]
            out[place - start + i] = total
            # x - x is zero for every finite x only
            exact = (tile[LOW + i] == 0.0) & (tile[SIZE + i] == 0.0) & (total - total == 0.0)
            inexact += not exact
        if inexact:
            return inexact
        place += length
    return 0


@register_jitable
def weights_of(mean, element):  # type: ignore[no-untyped-def]
    """The address of an element's weights, and the number of elements that have them from it on."""
    run = mean[tables.RUN]
    if run == 0:
        return mean[tables.WEIGHTS], MAGNITUDE
    columns, rows = mean[tables.COLUMNS], mean[tables.GROUP_ROWS]
    column, across = element % columns, (columns + run - 1) // run
    group = element // columns // rows
    if across == 1:
        left = (group + 1) * rows * columns - element
    else:
        left = min((column // run + 1) * run, columns) - column
    part = group * across + column // run
    return mean[tables.WEIGHTS] + 8 * part * mean[tables.WEIGHT_COUNT], left


@register_jitable
def is_single(mean, weights_at, place, length, out, offset, tile):  # type: ignore[no-untyped-def]
    """Combine one tile in float32, if the mean may be; whether every element is proved."""
    if mean[tables.SINGLES] == 0:
        return False
    rows, weights = integers_at(mean[tables.ROWS]), floats_at(weights_at)
    count, divisor = mean[tables.SINGLE_ROWS], mean[tables.WEIGHT]
    arguments = (rows, weights, count, place, length, out, offset, tile, divisor)
    return invoke(mean[tables.SINGLES], arguments) == 0


@register_jitable
def add_rows(mean, weights_at, place, length, tile):  # type: ignore[no-untyped-def]
    """Add up the rows of one tile."""
    groups = integers_at(mean[tables.GROUPS])
    rows, weights = integers_at(mean[tables.ROWS]), floats_at(weights_at)
    for group in range(mean[tables.GROUP_COUNT]):
        add, first, last = groups[3 * group], groups[3 * group + 1], groups[3 * group + 2]
        invoke(add, (rows, weights, first, last, place, length, tile))


@register_jitable
def sum_and_finish(mean, weights, place, length, out, offset, tile):  # type: ignore[no-untyped-def]
    """Combine one tile by the fast path; the number of its elements left in doubt."""
    add_rows(mean, weights, place, length, tile)
    return finish(mean, out, offset, length, tile)


@register_jitable
def finish(mean, out, offset, length, tile):  # type: ignore[no-untyped-def]
    """Divide and round the sums of one tile; the number of its elements left in doubt."""
    table = integers_at(mean[tables.FORMAT])
    weight, rest = float_of(mean[tables.DIVISOR]), float_of(mean[tables.REST])
    return invoke(mean[tables.FINISH], (out, offset, length, tile, weight, rest, table))


@register_jitable
def resolve_doubts(mean, place, length, out, offset, tile, scratch):  # type: ignore[no-untyped-def]
    """Resolve the elements in doubt, in order; DONE, or the status of the first failure."""
    width = integers_at(mean[tables.FORMAT])[tables.WIDTH]
    for i in range(length):
        if tile[DOUBT + i] == 0.0:
            continue
        status = UNRESOLVED
        if mean[tables.RESOLVE]:
            status = invoke(mean[tables.RESOLVE], (mean, place + i, tile, scratch))
        if status != DONE:
            scratch[ROW] = place + i
            return status
        for byte in range(width):
            out[(offset + i) * width + byte] = np.uint8(scratch[RESULT] >> (8 * byte) & 0xFF)
    return DONE
