"""The pictures of the study of banks.

Rule 1: each picture says what its marks mean, which side is better, and how many seeds it has.
Rule 2: samples and gates are those of the first seed, not chosen, from the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.bank_tables import tenth_changes
from replication.banks import DMP, FIXED_GATE, FULL, MAIN, PROMPTS
from replication.contrasts import Rows, contrast, contrasts, rows_of
from replication.paired import TENTHS
from replication.settings import setting_of
from replication.shapes import CAPTIONS, Pictures, caption_text
from replication.summaries import half_width

COLOURS = {
    FULL: "tab:gray",
    PROMPTS: "tab:orange",
    FIXED_GATE: "tab:green",
    DMP: "tab:blue",
    "DMP, balanced": "tab:purple",
}
GATES = (DMP, "DMP, balanced", "DMP, fast gate", "DMP, as published", FIXED_GATE)
"""Arms whose gates are shown."""
SHOWN = (0, 7, 13, 22, 26, 35, 39, 46)
"""Captions of which samples are shown."""
FARTHEST = 5.0
"""Changes beyond so many times the middle one are drawn at the edge."""


def pictures_of(
    result: Mapping[str, Any], folder: Path | None
) -> dict[str, Callable[[], Figure | None]]:
    """How each picture is drawn, by its name; samples need the work folder."""
    found: dict[str, Callable[[], Figure | None]] = {
        "replication-dmp-gain.png": lambda: gain(result),
        "replication-dmp-arms.png": lambda: arms(result),
        "replication-dmp-timesteps.png": lambda: timesteps(result),
        "replication-dmp-bases.png": lambda: curves(result),
        "replication-dmp-gates.png": lambda: gates(result),
    }
    if folder is not None:
        found["replication-dmp-samples.png"] = lambda: samples(result, folder)
    return found


def gain(result: Mapping[str, Any]) -> Figure:
    """Each condition against the base and the controls of its gate."""
    found = list(contrasts(result))
    said = {"the base": "black", "prompts, no gate": "tab:orange", "time-free gate": "tab:green"}
    figure = Figure((9, 1.6 + 0.42 * len(found)), layout="constrained")
    axes = figure.subplots()
    # a few that are far off must not hide the others
    middle = median(abs(each.mean) for _, by_control in found for each in by_control.values())
    reach = FARTHEST * max(middle, 1e-3)
    for place, (_, by_control) in enumerate(reversed(found)):
        for row, (control, color) in enumerate(said.items()):
            if control in by_control:
                values = by_control[control].differences
                _interval_or_edge(axes, values, place + 0.26 - 0.26 * row, color, reach)
    for control, color in said.items():
        axes.plot([], [], "o", color=color, label=f"against {control}")
    axes.set_yticks(
        range(len(found)),
        [f"{each.say} (n={len(by['the base'].differences)})" for each, by in reversed(found)],
    )
    axes.set_xlim(-1.2 * reach, 1.2 * reach)
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel(
        "test loss of the bank with a gate, less that of the other, in % of the base's\n"
        "left of 0 is better; bars are 95 % intervals over the seeds"
    )
    axes.set_title(
        "A gate earns its place where all three lie left of 0", loc="left", fontsize="medium"
    )
    axes.grid(axis="x", color="0.92")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _interval(axes: Axes, values: Sequence[float], place: float, color: str) -> None:
    """Mean and 95 % interval, with a small dot for each seed."""
    axes.plot(values, [place] * len(values), ".", color=color, alpha=0.35, markersize=4)
    axes.plot([fmean(values)], [place], "o", color=color, markersize=5)
    if len(values) > 1:
        half = half_width(values)
        axes.plot([fmean(values) - half, fmean(values) + half], [place] * 2, color=color)


def _interval_or_edge(
    axes: Axes, values: Sequence[float], place: float, color: str, reach: float
) -> None:
    """The interval, or if it is beyond `reach`, an arrow at the edge with the mean."""
    mean = fmean(values)
    if abs(mean) <= reach:
        _interval(axes, values, place, color)
        return
    text, side = (
        (f"{mean:+.2f} % \u2192", "right") if mean > 0 else (f"\u2190 {mean:+.2f} %", "left")
    )
    edge = 1.15 * (reach if mean > 0 else -reach)
    axes.text(edge, place, text, ha=side, va="center", color=color, fontsize="small")


def arms(result: Mapping[str, Any]) -> Figure:
    """The change of the test loss of each arm, case by case."""
    parts = {name: rows for name in result["cases"] if (rows := rows_of(result, name))}
    heights = [len(rows[0]["arms"]) for rows in parts.values()]
    figure = Figure((9, 1.4 + 0.27 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(parts), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, rows) in zip(grid, parts.items(), strict=True):
        names = [arm for arm in rows[0]["arms"] if arm != "base"][::-1]
        values = [contrast(rows, arm, "base").differences for arm in names]
        reach = FARTHEST * max(median(abs(fmean(each)) for each in values), 1e-3)
        for place, (arm, each) in enumerate(zip(names, values, strict=True)):
            _interval_or_edge(axes, each, place, COLOURS.get(arm, "0.3"), reach)
        axes.set_yticks(range(len(names)), names, fontsize="small")
        axes.set_xlim(-1.2 * reach, 1.2 * reach)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_title(
            f"{name}: {result['cases'][name]['say']} (n={len(rows)})",
            loc="left",
            fontsize="medium",
        )
        axes.axvline(0, color="0.5", linewidth=0.8)
        axes.grid(axis="x", color="0.92")
        axes.spines[["top", "right", "left"]].set_visible(False)
    grid[-1].set_xlabel(
        "test loss against the base's, % (left of 0 is better; bars are 95 % intervals over seeds)"
    )
    return figure


def _bases(result: Mapping[str, Any]) -> dict[str, Rows]:
    """The rows of the cases that have bases of their own."""
    names = [name for name in result["cases"] if name != "options"]
    return {name: rows for name in names if (rows := rows_of(result, name))}


def timesteps(result: Mapping[str, Any]) -> Figure:
    """The change of the loss by timestep, for the arms of all cases."""
    parts = _bases(result)
    figure = Figure((10, 6.4), layout="constrained")
    grid = figure.subplots(2, 2).flat
    for axes in grid[len(parts) :]:
        axes.set_axis_off()
    middle = [(n + 0.5) * 1000 / TENTHS for n in range(TENTHS)]
    for axes, (name, rows) in zip(grid, parts.items(), strict=False):
        for shift, (arm, color) in enumerate(COLOURS.items()):
            changes = list(zip(*(tenth_changes(row, arm) for row in rows), strict=True))
            means = [fmean(each) for each in changes]
            halves = [half_width(each) if len(each) > 1 else 0 for each in changes]
            places = [each + 8 * (shift - 2) for each in middle]
            axes.errorbar(places, means, halves, color=color, label=arm, marker="o", ms=3, lw=1)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set_title(f"{name} (n={len(rows)})", loc="left", fontsize="medium")
        axes.set_xlabel("timestep (left: little noise, right: much)")
        axes.grid(color="0.93")
        axes.spines[["top", "right"]].set_visible(False)
    first = figure.axes[0]
    figure.supylabel("test loss against the base's, % (below 0 is better)")
    figure.legend(*first.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def curves(result: Mapping[str, Any]) -> Figure:
    """The held-out loss while the bases were trained: one line for each seed."""
    parts = _bases(result)
    figure = Figure((10, 3.4), layout="constrained")
    grid = figure.subplots(1, len(parts), squeeze=False)[0]
    for axes, (name, rows) in zip(grid, parts.items(), strict=True):
        ends = []
        for row in rows:
            points = [(each["step"], each["validation_loss"]) for each in row["curve"]]
            ends += [loss for step, loss in points if step >= points[-1][0] / 2]
            axes.plot(*zip(*points, strict=True), lw=1)
        axes.set_ylim(0.97 * min(ends), 1.15 * max(ends))
        axes.set_title(f"{name} (n={len(rows)})", loc="left", fontsize="medium")
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.93")
    grid[0].set_ylabel("validation loss (lower is better)")
    figure.suptitle("While the bases were trained, at a rate that decays to 0", fontsize="medium")
    return figure


def _gates(seed: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    gates: Mapping[str, Any] = seed.get(part, {}).get("gates", {})
    return gates


def gates(result: Mapping[str, Any]) -> Figure | None:
    """The weights of gates over the timesteps, for the first seed and shapes."""
    first = result["seeds"][0]
    found = {
        arm: gate for part in ("shapes", "options") for arm, gate in _gates(first, part).items()
    }
    if not found:
        return None
    chosen = [arm for arm in GATES if arm in found]
    blocks = len(found[chosen[0]]["blocks"])
    figure = Figure((10, 1.2 + 1.5 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), blocks, squeeze=False, sharex=True, sharey=True)
    for row, arm in zip(grid, chosen, strict=True):
        for number, (axes, block) in enumerate(zip(row, found[arm]["blocks"], strict=True)):
            weights = np.array(block).T
            ratio = np.log2(np.maximum(len(weights) * weights, 2.0**-6))
            image = axes.imshow(
                ratio, aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, extent=(0, 1000, 15.5, -0.5)
            )
            if arm == chosen[0]:
                axes.set_title(f"block {number}", fontsize="medium")
        row[0].set_ylabel(f"{arm}\nposition", fontsize="small")
    for axes in grid[-1]:
        axes.set_xlabel("timestep")
    bar = figure.colorbar(image, ax=grid, label="weight, against a uniform gate's", shrink=0.6)
    ticks = (0.125, 0.25, 0.5, 1, 2, 4, 8)
    bar.set_ticks([log2(each) for each in ticks], labels=[f"{each:g} x" for each in ticks])
    return figure


def samples(result: Mapping[str, Any], folder: Path) -> Figure:
    """Samples of the main arms from the same noise, a pair of columns for each caption."""
    from replication.dmp import BankStudy  # noqa: PLC0415

    study = BankStudy(folder, setting_of(result["setting"]))
    study.rates = result["rates"]
    patching = study.patching("shapes", 0)
    judge = study.domains.judge("shapes", "test")
    models: dict[str, tuple[Path, Path | None]] = {"base": (patching.base, None)}
    models |= {arm: patching.trained(arm, study.rates["shapes"][arm]) for arm in MAIN}
    turns = [label + turn * len(CAPTIONS) for label in SHOWN for turn in (0, 1)]
    images = {name: judge.samples(*each)[turns] for name, each in models.items()}
    images["other real images"] = _real(study.domains["shapes"].test)
    figure = Figure((9, 0.66 * (len(images) + 1.4)), layout="constrained")
    grid = figure.subplots(len(images))
    for axes, (name, each) in zip(grid, images.items(), strict=True):
        _strip(axes, each, name)
    grid[-1].set_xticks(
        [18 * n + 8 for n in range(len(SHOWN))],
        [caption_text(label).replace(" on ", "\non ").replace("a ", "", 1) for label in SHOWN],
        fontsize=6,
    )
    figure.suptitle(
        "Samples of the first seed, from the same noise in each column", fontsize="medium"
    )
    return figure


def _real(pictures: Pictures) -> np.ndarray:
    """Two test images of each caption that is shown."""
    places = [np.flatnonzero(pictures.labels == label) for label in SHOWN]
    return pictures.images[[int(each[turn % len(each)]) for each in places for turn in (0, 1)]]


def _strip(axes: Axes, images: np.ndarray, title: str) -> None:
    """Images in a row, with a gap between them."""
    gap = np.full((8, 1, 3), 255, np.uint8)
    axes.imshow(np.concatenate([part for each in images for part in (each, gap)], axis=1))
    axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize="small")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
