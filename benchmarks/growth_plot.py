"""The plot of how time grows: a panel for each quantity, soupctl and the limit in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

PANELS = (
    ("ingredients", ("ingredients",)),
    ("tensors", ("tensors", "mixed sizes")),
    ("gigabytes of an ingredient", ("gigabytes, 1 threads", "gigabytes, 2 threads")),
    ("gigabytes of the only tensor", ("one tensor, gigabytes",)),
)
"""The label of each panel's axis, and its series."""
DPI = 100


def draw(records: Sequence[Mapping[str, Any]]) -> bytes:
    """The points of the panels' series as a PNG file; both axes are logarithmic."""
    figure = Figure(figsize=(9, 7), dpi=DPI, layout="constrained")
    for axes, (label, series) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for color, name in zip(("C0", "C1"), series, strict=False):
            found = sorted(
                (each for each in records if each["series"] == name), key=lambda each: each["x"]
            )
            if not found:
                continue
            x = [each["x"] for each in found]
            ours, limits = ([each[key] for each in found] for key in ("wall_s", "limit_wall_s"))
            axes.plot(x, ours, marker="o", color=color, label=f"soupctl: {name}")
            axes.plot(x, limits, marker="x", color=color, linestyle="--", label="its limit")
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
