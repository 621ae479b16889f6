"""Ingredients with a known best soup, and a function that scores it."""

from __future__ import annotations

from typing import Any

import numpy as np

TARGET = np.array([1.0, 1.0, 1.0, 1.0])
VALUES = {
    "a.st": (2.0, 2.0, 0.0, 0.0),
    "b.st": (9.0, 9.0, 9.0, 9.0),
    "c.st": (0.0, 0.0, 2.0, 1.5),
    "d.st": (1.0, 1.0, -2.0, 4.0),
}
"""Values for which c is nearest to the target, c with a is nearer, and nothing else is better."""


def closeness(arrays: dict[str, Any]) -> float:
    """The closeness of a soup to the target: zero at best."""
    return -float(np.abs(arrays["w"].astype(np.float64) - TARGET).sum())
