"""The signs of zeros in a cast: an engine adds, and a sum of zeros is +0.0."""

from __future__ import annotations


def keep_zero_signs(data: memoryview, out: memoryview, width: int) -> None:
    """Give elements of `out` that were cast from -0.0 in `data` their sign.

    Both are floats of as many elements; those of `out` have `width` bytes.
    """
    import numpy as np

    count = len(out) // width
    if not count:
        return
    own = len(data) // count
    stored = np.frombuffer(data, f"<u{own}")
    negative = np.flatnonzero(stored == np.array(1 << (8 * own - 1), stored.dtype))
    if negative.size:
        cast = np.frombuffer(out, f"<u{width}")
        cast[negative] |= np.array(1 << (8 * width - 1), cast.dtype)
