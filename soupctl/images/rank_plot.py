"""A plot of a soup's score without each of its ingredients, beside that of the whole soup."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from .figures import DPI, LARGEST_SIDE, drawable, png

LONGEST_NAME = 40
"""Characters of a name that are drawn; the end of it is kept."""


def rank_plot(title: str, whole: float, without: Sequence[tuple[str, float]]) -> bytes:
    """The score of the soup without each ingredient, by name, as a PNG file."""
    return png(lambda: rank_figure(title, whole, without))


def rank_figure(title: str, whole: float, without: Sequence[tuple[str, float]]) -> Figure:
    """A row for each ingredient, the first on top: a bar from the whole soup's score to its own."""
    size = (8, 1.8 + 0.28 * len(without))
    figure = Figure(size, min(DPI, LARGEST_SIDE / max(size)), layout="constrained")
    figure.suptitle(drawable(title), parse_math=False)
    axes = figure.add_subplot()
    places = range(len(without))
    axes.barh(places, [score - whole for _, score in without], left=whole, color="tab:blue")
    axes.axvline(whole, color="black", linewidth=1)
    axes.annotate(
        f"all ingredients: {whole:.4g}",
        (whole, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize="small",
    )
    axes.set_yticks(places, [_short(name) for name, _ in without], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.02)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel("score without this ingredient")
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _short(name: str) -> str:
    plain = drawable(name)
    return plain if len(plain) <= LONGEST_NAME else f"...{plain[3 - LONGEST_NAME :]}"
