"""The plot of how time grows: a panel for each quantity, soupctl and the limit in each.

Rule 1: it is understood without any text around it: panels have titles, lines have names, and axes
have plain numbers.
Rule 2: times are CPU times, since series measured one after the other differ in how long they wait
for other work on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot of some series over one quantity."""

    title: str
    axis: str
    series: tuple[tuple[str, str], ...]
    """The name of each series, and what its lines are called; nothing if it is the only one."""


PANELS = (
    Panel("more ingredients, of 50 MB each", "ingredients", (("ingredients", ""),)),
    Panel("more tensors, of two ingredients", "tensors in each ingredient", (("tensors", ""),)),
    Panel(
        "larger ingredients, eight of them",
        "GB read",
        (("gigabytes, 1 thread", "1 thread"), ("gigabytes, 2 threads", "2 threads")),
    ),
    Panel(
        "one larger tensor, of two ingredients",
        "GB of the tensor",
        (("one tensor, 1 thread", "1 thread"), ("one tensor, 2 threads", "2 threads")),
    ),
)
DPI = 110
OURS, LIMIT = ("#1f77b4", "#d95f02"), ("#9ecae1", "#fdae6b")


def draw(records: Sequence[Record]) -> bytes:
    """The points of the panels' series as a PNG file; both axes are logarithmic."""
    figure = Figure(figsize=(10, 8), dpi=DPI, layout="constrained")
    figure.suptitle(
        "CPU seconds of soupctl avg (solid) and of the limit (dashed),\n"
        "a C program that only reads the same files, and writes one of their size to disk"
    )
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        _draw_panel(axes, panel, records)
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _draw_panel(axes: Axes, panel: Panel, records: Sequence[Record]) -> None:
    axes.set(title=panel.title, xscale="log", yscale="log", xlabel=panel.axis, ylabel="CPU seconds")
    for place, (name, called) in enumerate(panel.series):
        found = sorted((each for each in records if each["series"] == name), key=lambda e: e["x"])
        for key, what, colors, style in (
            ("cpu_s", "soupctl", OURS, "-"),
            ("limit_cpu_s", "limit", LIMIT, "--"),
        ):
            _draw_line(axes, found, key, colors[place], style, f"{what}, {called}".rstrip(", "))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small")


def _draw_line(
    axes: Axes, points: Sequence[Record], key: str, color: str, style: str, label: str
) -> None:
    """Medians of runs, with thin bars from the fastest to the slowest."""
    if not points:
        return
    x = [point["x"] for point in points]
    middle = [median(point[key]) for point in points]
    below = [high - min(point[key]) for high, point in zip(middle, points, strict=True)]
    above = [max(point[key]) - low for low, point in zip(middle, points, strict=True)]
    bars = {"elinewidth": 1, "capsize": 2}
    axes.errorbar(
        x, middle, [below, above], color=color, linestyle=style, marker="o", label=label, **bars
    )
