"""Figures as PNG files, drawn by matplotlib.

Rule 1: figures are made without pyplot, which keeps global state and may open a window.
Rule 2: equal input gives an equal file in one environment: the user's matplotlibrc is not applied,
and the file names no version.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure

DPI = 110
LARGEST_SIDE = 60_000
"""Pixels; matplotlib draws no larger picture."""


def png(make: Callable[[], Figure]) -> bytes:
    """The PNG file of the figure that `make` returns, drawn with matplotlib's own settings."""
    own = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    buffer = io.BytesIO()
    with matplotlib.rc_context(own):
        make().savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def drawable(text: str) -> str:
    """The text in letters that matplotlib's own font has, all others escaped."""
    plain = text.encode("latin-1", "backslashreplace").decode("latin-1")
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in plain)
