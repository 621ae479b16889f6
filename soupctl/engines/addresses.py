"""Addresses of memory, for compiled code; numpy is loaded only where nothing else finds them.

Rule 1: an address is valid as long as the caller keeps the memory.
"""

from __future__ import annotations

import ctypes
from typing import Any


def address(memory: Any) -> int:
    """The address of the first byte of contiguous memory: a view, an array of any kind."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    except (TypeError, ValueError):
        return _address_of_constant(memory)


def _address_of_constant(memory: Any) -> int:
    """The address of memory that is read-only or empty."""
    import numpy as np

    place: int = np.asarray(memoryview(memory)).__array_interface__["data"][0]
    return place
