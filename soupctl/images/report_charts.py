"""Charts of a soup's report as SVG, for a page in light or dark colours.

Rule 1: text stays text, and takes the page's font and colour; colours are names that the page's
style gives values to.
Rule 2: equal input gives an equal file in one environment.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from hashlib import sha256

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .figures import drawable

WIDTH = 5.0
"""Inches; these 360 units are about the width of a phone, where letters keep their size."""
LETTERS = 11
"""Size of letters, in the same units."""
LONGEST_LABEL = 22
"""Characters of a name that are drawn; of a longer one, the end."""
INK, FAINT, FIRST, SECOND, LOW = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
COLOURS = {
    INK: "currentColor",
    FAINT: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    LOW: "var(--soft)",
}
"""The colours that matplotlib draws, and what replaces each in the page."""
Rows = Sequence[tuple[str, float]]


def bar_chart(rows: Rows, label: str, *, percent: bool = False, start: float = 0.0) -> str:
    """A bar for each named value, the first on top, from `start`; at least one."""

    def make() -> Figure:
        figure = Figure((WIDTH, 0.85 + 0.32 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(rows))
        axes.barh(places, [value - start for _, value in rows], left=start, color=FIRST, height=0.6)
        if start:
            axes.axvline(start, color=SECOND, linewidth=1.5)
        axes.set_yticks(places, [_short(name) for name, _ in rows], parse_math=False)
        axes.invert_yaxis()
        axes.margins(x=0.05, y=0.02)
        if percent:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        else:
            axes.ticklabel_format(axis="x", useOffset=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", color=FAINT)
        _finish(axes, label)
        return figure

    return _svg(make)


def share_chart(names: Sequence[str], columns: Sequence[tuple[str, Sequence[float]]]) -> str:
    """A square for each ingredient (down) in each block (across), darker for a larger share."""

    def make() -> Figure:
        figure = Figure((WIDTH, 1.3 + 0.3 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        most = max((abs(value) for _, values in columns for value in values), default=1.0) or 1.0
        for column, (_, values) in enumerate(columns):
            for row, value in enumerate(values):
                axes.barh(
                    row,
                    0.92,
                    height=0.88,
                    left=column - 0.46,
                    color=FIRST if value >= 0 else SECOND,
                    alpha=min(1.0, 0.06 + 0.94 * abs(value) / most),
                )
        axes.set_yticks(range(len(names)), [_short(name) for name in names], parse_math=False)
        axes.set_xticks(
            range(len(columns)),
            [_short(name) for name, _ in columns],
            rotation=60,
            ha="right",
            rotation_mode="anchor",
            parse_math=False,
        )
        axes.set_xlim(-0.6, len(columns) - 0.4)
        axes.invert_yaxis()
        axes.margins(y=0.02)
        _finish(axes, "")
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="x", length=0)
        return figure

    return _svg(make)


def score_chart(scores: Sequence[float], best: Sequence[float]) -> str:
    """Each score in the order of trials, at least one, and the best one so far."""

    def make() -> Figure:
        figure = Figure((WIDTH, 2.6), layout="constrained")
        axes = figure.add_subplot()
        trials = range(1, len(scores) + 1)
        axes.plot(trials, scores, "o", color=FIRST, markersize=4, label="score")
        axes.step(trials, best, where="post", color=SECOND, linewidth=1.5, label="best so far")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(color=FAINT)
        axes.legend(frameon=False, labelcolor=INK, fontsize=LETTERS)
        _finish(axes, "candidate")
        return figure

    return _svg(make)


def _finish(axes: matplotlib.axes.Axes, label: str) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(axis="both", length=0, colors=INK, labelsize=LETTERS)
    axes.set_xlabel(label, color=INK, fontsize=LETTERS)
    axes.patch.set_visible(False)


def _short(name: str) -> str:
    plain = drawable(name)
    return plain if len(plain) <= LONGEST_LABEL else f"...{plain[3 - LONGEST_LABEL :]}"


SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "soupctl", "font.size": LETTERS}
LEFT_OUT = (
    re.compile(r"^.*?(?=<svg)", re.DOTALL),
    re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r"\s*<style[^>]*>.*?</style>", re.DOTALL),
    re.compile(r'(?<=<g) id="[^"]*"'),
    re.compile(r"font-family: [^;]*; "),
)
"""What matplotlib writes that only an SVG in a file of its own needs."""
SIZE = re.compile(r' (?:width|height)="[0-9.]+pt"')
REFERENCE = re.compile(r'(?<=[" (])(id="|url\(#|xlink:href="#|href="#)')


def _svg(make: Callable[[], Figure]) -> str:
    """The figure as an `svg` element, as wide as its place in a page that has several."""
    own = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    buffer = io.StringIO()
    with matplotlib.rc_context({**own, **SETTINGS}):
        figure = make()
        figure.patch.set_visible(False)
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator")))
    text = buffer.getvalue()
    for pattern in LEFT_OUT:
        text = pattern.sub("", text)
    text = SIZE.sub("", text, count=2)
    for drawn, named in COLOURS.items():
        text = text.replace(drawn, named)
    # names of parts are unique in a page
    prefix = sha256(text.encode()).hexdigest()[:8]
    return REFERENCE.sub(rf"\g<1>c{prefix}-", text).strip()
