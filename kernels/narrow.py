"""Conversion of float64 to float32, and whether it is exact."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core.typing import Signature

from .sums import FLOATS

SINGLES = types.CPointer(types.float32)


def signature() -> Signature:
    """The signature of `narrow`."""
    return types.int64(FLOATS, types.int64, SINGLES)


SIGNATURES = {"narrow": signature}


def narrow(source, count, out):  # type: ignore[no-untyped-def]
    """Put `count` elements of `source` at `out`; how many of them changed."""
    changed = 0
    for i in range(count):
        value = source[i]
        single = np.float32(value)
        out[i] = single
        changed += float(single) != value
    return changed
