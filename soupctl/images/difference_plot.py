"""Plots of how checkpoints differ: bars by block, and cosines of deltas as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .figures import DPI, LARGEST_SIDE, drawable, png

LONGEST_NAME = 40
"""Characters of a name that are drawn; the end of it is kept."""


@dataclass(frozen=True, slots=True)
class BlockChange:
    """How much a block changed."""

    name: str
    change: float | None
    """The norm of the difference over that of the first; None if the first is all zeros."""
    cosine: float | None


def change_plot(title: str, blocks: Sequence[BlockChange]) -> bytes:
    """The relative change and the cosine of each block, at least one, as a PNG file."""
    return png(lambda: change_figure(title, blocks))


def cosine_plot(
    title: str, labels: Sequence[str], cosines: Sequence[Sequence[float | None]]
) -> bytes:
    """The cosine of each two deltas as a PNG file."""
    return png(lambda: cosine_figure(title, labels, cosines))


def change_figure(title: str, blocks: Sequence[BlockChange]) -> Figure:
    """Two bar charts side by side, a row for each block, the first on top."""
    size = (10, 1.6 + 0.22 * len(blocks))
    figure = Figure(size, min(DPI, LARGEST_SIDE / max(size)), layout="constrained")
    figure.suptitle(drawable(title), parse_math=False)
    changes, angles = figure.subplots(1, 2, sharey=True)
    places = range(len(blocks))
    changes.barh(places, [each.change or 0.0 for each in blocks], color="tab:blue")
    angles.barh(places, [1 - (each.cosine or 0.0) for each in blocks], color="tab:orange")
    changes.set_yticks(places, [_short(each.name) for each in blocks], parse_math=False)
    changes.invert_yaxis()
    changes.margins(y=0.01)
    changes.set_xlabel("change relative to the norm")
    changes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    angles.set_xlabel("1 \N{MINUS SIGN} cosine")
    angles.ticklabel_format(axis="x", style="sci", scilimits=(-3, 3), useMathText=True)
    for axes in (changes, angles):
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure


def cosine_figure(
    title: str, labels: Sequence[str], cosines: Sequence[Sequence[float | None]]
) -> Figure:
    """A square for each two deltas, with its cosine; empty where a delta is all zeros."""
    side = 3.5 + 0.55 * len(labels)
    size = (side + 1.5, side)
    figure = Figure(size, min(DPI, LARGEST_SIDE / max(size)), layout="constrained")
    figure.suptitle(drawable(title), parse_math=False)
    axes = figure.add_subplot()
    values = [[float("nan") if each is None else each for each in row] for row in cosines]
    image = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
    names = [_short(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    for row, cells in enumerate(cosines):
        for column, cosine in enumerate(cells):
            if cosine is not None:
                colour = "white" if abs(cosine) > 0.6 else "black"
                axes.text(column, row, f"{cosine:.2f}", ha="center", va="center", color=colour)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="cosine of two deltas", shrink=0.8)
    return figure


def _short(name: str) -> str:
    plain = drawable(name)
    return plain if len(plain) <= LONGEST_NAME else f"...{plain[3 - LONGEST_NAME :]}"
