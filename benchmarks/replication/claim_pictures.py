"""Pictures of claims of Diffusion Soup, drawn from figures by the rules of `pictures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.claim_tables import WAYS, change, found_for
from replication.summaries import half_width, percent

Rows = Sequence[Any]


def left_out(result: Mapping[str, Any]) -> Figure | None:
    """The loss of all images, and of the removed shard's, for each way to remove it."""
    rows = found_for(result, "leave one out")
    if not rows:
        return None
    names = [name for name in rows[0] if name.startswith("without")]
    figure = Figure((9, 6.4), layout="constrained")
    titles = {
        "own": "images in the styles of the removed shard: at 0, nothing of it is left",
        "loss": "all test images: lower is better",
    }
    grid = figure.subplots(len(titles))
    for axes, (field, title) in zip(grid, titles.items(), strict=True):
        for place, (way, said) in enumerate({"soup": "the whole soup", **WAYS}.items()):
            values = [[change(row[name], way, field) for row in rows] for name in names]
            places = np.arange(len(names)) + 0.16 * place
            color = "0.75" if way == "soup" else None
            error = [half_width(each) for each in values] if len(rows) > 1 else None
            means = [fmean(each) for each in values]
            axes.bar(places, means, 0.15, label=said, color=color, yerr=error, ecolor="0.3")
        axes.set_xticks(np.arange(len(names)) + 0.32, [f"{each} of 4" for each in names])
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_ylabel("loss against\nthe base's, %")
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    lines = "; lines: 95 % intervals" if len(rows) > 1 else ""
    figure.suptitle(f"Four ways to remove a data shard ({_seeds(rows)}{lines})", x=0.02, ha="left")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def linearity(result: Mapping[str, Any]) -> Figure | None:
    """The error of the linearisation and the losses, by the length of fine-tuning."""
    rows = found_for(result, "linearity")
    if not rows:
        return None
    figure = Figure((9, 4.2), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    steps = [each["steps"] for each in rows[0]]
    for field, said in (
        ("of_change", "of the change that fine-tuning makes"),
        ("of_prediction", "of the whole prediction"),
    ):
        _line(
            errors, steps, [[100 * row[n][field] for n in range(len(steps))] for row in rows], said
        )
    errors.set_yscale("log")
    errors.set_title(
        "How far the soup's predictions are from\nthe mean of its ingredients', %", **_LEFT
    )
    for field, said in (
        ("soup", "soup"),
        ("ensemble", "ensemble of scores"),
        ("ingredient", "one ingredient"),
    ):
        _line(losses, steps, [[row[n][field] for n in range(len(steps))] for row in rows], said)
    losses.set_title("Test loss of all styles\n(lower is better)", **_LEFT)
    for axes in (errors, losses):
        axes.set_xscale("log")
        axes.set_xticks(steps, [str(each) for each in steps])
        axes.minorticks_off()
        axes.set_xlabel(f"steps of each of two ingredients ({_seeds(rows)})")
        axes.legend(frameon=False, fontsize="small")
    return figure


def one_by_one(result: Mapping[str, Any]) -> Figure | None:
    """The loss of soups of more and more shards, and the copies in samples of such soups."""
    parts = ("one by one", "style-8")
    seeds = [seed for seed in result["seeds"] if all(part in seed for part in parts)]
    if not seeds:
        return None
    rows, bases = ([seed[part] for seed in seeds] for part in parts)
    copies = found_for(result, "memorisation")
    figure = Figure((9, 4.0), layout="constrained")
    losses, shares = figure.subplots(1, 2)
    counts = [each["shards"] for each in rows[0]]
    changes = [
        [percent(each, row["base"]) for each in curve]
        for curve, row in zip(rows, bases, strict=True)
    ]
    _line(losses, counts, changes, "soup of the first shards")
    losses.axhline(0, color="0.5", linewidth=0.8)
    losses.set_title(
        "Test loss of all eight styles, % against\nthe base's (lower is better)", **_LEFT
    )
    losses.set_xlabel(f"shards of one style each in the soup ({_seeds(rows)})")
    if copies:
        names = {"ingredient": 1, "soup of 2": 2, "soup of 4": 4}
        found = [[100 * row[name]["copies"] for name in names] for row in copies]
        _line(shares, list(names.values()), found, "soup with the shard of copies")
        paragon = fmean(100 * row["paragon, steps of all"]["copies"] for row in copies)
        shares.axhline(paragon, color="tab:red", linestyle="--", label="paragon of four shards")
        shares.set_xticks(list(names.values()))
        shares.set_ylim(0, 100)
        shares.set_title(
            "Samples that are copies of planted\npictures, % (lower is better)", **_LEFT
        )
        shares.set_xlabel(f"shards in the soup ({_seeds(copies)})")
        shares.legend(frameon=False, fontsize="small")
    return figure


_LEFT = {"loc": "left", "fontsize": "medium"}


def _line(axes: Axes, places: Sequence[float], rows: Sequence[Sequence[float]], said: str) -> None:
    """A line through the means, with a thin one for each seed."""
    means = [fmean(each) for each in zip(*rows, strict=True)]
    (line,) = axes.plot(places, means, "o-", label=said)
    if len(rows) > 1:
        for each in rows:
            axes.plot(places, each, color=line.get_color(), alpha=0.25, linewidth=0.8)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)


def _seeds(rows: Rows) -> str:
    return "one seed" if len(rows) == 1 else f"{len(rows)} seeds"
