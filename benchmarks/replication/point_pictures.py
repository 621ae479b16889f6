"""Points of one and two dimensions: the shards, their geometric mean and their union, and samples.

Rule 1: samples are those of the first seed, from the same noise for all models, not chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication import mixtures
from replication.claim_tables import found_for

MODELS = {"soup": "tab:blue", "paragon": "tab:orange"}
AXIS = np.linspace(-1, 1, 201)


def points(result: Mapping[str, Any], study: Any) -> Figure | None:
    """A row for each case: what was trained on, what the soup draws, and what the paragon draws."""
    if not found_for(result, "geometric mean"):
        return None
    figure = Figure((9, 2.5 * len(mixtures.MODES)), layout="constrained")
    grid = figure.subplots(len(mixtures.MODES), 3)
    for row, (case, shards) in zip(grid, mixtures.MODES.items(), strict=True):
        plane = mixtures.dimensions(case)
        draw = _line if plane == 1 else _plane
        models = mixtures.models_of(study.work, study.setting, case, 0)
        draw(row[0], shards, None, "0.5")
        row[0].set_title(f"{case}: the two shards", loc="left", fontsize="small")
        for axes, (name, color) in zip(row[1:], MODELS.items(), strict=True):
            found = mixtures.points_of(study.work, study.setting, models[name], plane)
            draw(axes, shards, found, color)
            axes.set_title(f"samples of the {name}", loc="left", fontsize="small")
        for axes in row:
            axes.set_yticks([])
            axes.set_xlim(-1, 1)
            axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(
        "Black: the geometric mean of the shards. Grey: each shard. One seed.",
        x=0.01,
        ha="left",
        fontsize="medium",
    )
    return figure


def _line(axes: Axes, shards: Any, found: Any, color: str) -> None:
    """Densities of one dimension, and a histogram of samples."""
    wanted, each = _densities(shards, AXIS[:, None])
    for density in each:
        axes.plot(AXIS, density / density.mean() / 2, color="0.65", linewidth=0.9)
    axes.plot(AXIS, wanted / wanted.mean() / 2, color="black")
    if found is not None:
        axes.hist(found[:, 0], bins=np.linspace(-1, 1, 41), density=True, color=color, alpha=0.6)


def _plane(axes: Axes, shards: Any, found: Any, color: str) -> None:
    """Contours of densities of two dimensions, and samples."""
    wide = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2)
    wanted, each = _densities(shards, wide)
    shape = (len(AXIS), len(AXIS))
    for density in each:
        levels = [density.max() / 4]
        axes.contour(AXIS, AXIS, density.reshape(shape).T, levels, colors="0.65", linewidths=0.9)
    axes.contour(AXIS, AXIS, wanted.reshape(shape).T, [wanted.max() / 4], colors="black")
    if found is not None:
        axes.plot(*found.T, ".", color=color, markersize=2, alpha=0.6)
    axes.set_ylim(-1, 1)


def _densities(shards: Any, places: Any) -> tuple[Any, list[Any]]:
    each = [mixtures.density(modes, places) for modes in shards]
    return np.prod(each, axis=0) ** (1 / len(each)), each
