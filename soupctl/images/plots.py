"""Plots, drawn by matplotlib: the loss of a training run, and the gates of prompt banks.

Rule 1: denoising runs from left to right, so from the last timestep to 0.
Rule 2: all blocks, and all banks of a stack, share one colour scale, so that they compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from torch import Tensor
from torch.nn import functional

from ..banks.config import BankConfig, GateKind, Site
from ..banks.gate_survey import BlockSurvey, Survey, evenly_spaced
from .figures import DPI, LARGEST_SIDE, drawable, png

Array = npt.NDArray[np.float64]

MAPS = 9
"""Timesteps at which the weights are shown in their positions."""
MOST_ROWS = 24
"""Rows that a block's weights take up over time; neighbours are averaged to fit."""
LEAST_CHANGE, LEAST_LOG2 = 0.1, 0.015
"""Least ends of the colour scales (percent, and log2), so that rounding errors do not show."""
LOWEST_LOG2 = -3.0
"""Lower end of the weights' scale: a weight can be as small as zero."""
TIME = "timestep (noise \N{RIGHTWARDS ARROW} image)"


def loss_plot(steps: Sequence[int], losses: Sequence[float], smoothed: Sequence[float]) -> bytes:
    """The loss by step as a PNG file; see `loss_figure`."""
    return png(lambda: loss_figure(steps, losses, smoothed))


def gate_plot(surveys: Sequence[Survey], title: str) -> bytes:
    """The gates of a bank, or of the banks of a stack, as a PNG file; see `gate_figure`."""
    return png(lambda: gate_figure(surveys, title))


def loss_figure(steps: Sequence[int], losses: Sequence[float], smoothed: Sequence[float]) -> Figure:
    """The loss by step, with its smoothed course over it; all three have one length, at least 1."""
    figure = Figure(figsize=(8, 4.5), dpi=DPI, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps, losses, color="0.7", linewidth=0.8, marker=marker, label="loss")
    axes.plot(steps, smoothed, color="tab:red", linewidth=2, marker=marker, label="smoothed loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def gate_figure(surveys: Sequence[Survey], title: str) -> Figure:
    """For each bank, all blocks over all timesteps: weights in use, change with time, strength.

    Below, the weights themselves over time, and those of positions at a few timesteps in place.
    """
    blocks = [block for each in surveys for block in each.blocks]
    change = max(LEAST_CHANGE, *(100 * float(each.change.max()) for each in blocks))
    strength = max(float(each.strength.max()) for each in blocks) or 1.0
    log2 = torch.cat([_relative_weights(each).log2().flatten() for each in blocks])
    reach = max(LEAST_LOG2, float(log2.max()), min(-float(log2.min()), -LOWEST_LOG2))
    heights = [3.4 + 0.6 * len(each.blocks) for each in surveys]
    size = (14, 0.4 + sum(heights))
    figure = Figure(size, min(DPI, LARGEST_SIDE / max(size)), layout="constrained")
    figure.suptitle(drawable(title), parse_math=False, fontsize="x-large")
    parts = figure.subfigures(len(surveys), squeeze=False, height_ratios=heights)[:, 0]
    for part, survey in zip(parts, surveys, strict=True):
        part.suptitle(drawable(_facts(survey)), parse_math=False, fontsize="medium")
        has_maps = position_grid(survey.config, survey.blocks[0].site) is not None
        below = ["weights", "maps", "maps"] if has_maps else ["weights"] * 3
        axes = part.subplot_mosaic([["in use", "change", "strength"], below], height_ratios=[2, 3])
        _draw_overview(axes, survey, change, strength)
        _draw_weights(axes, survey, reach)
    return figure


def _draw_overview(axes: dict[str, Any], survey: Survey, change: float, strength: float) -> None:
    """Three heat maps, a row for each block and a column for each timestep."""
    blocks = survey.blocks
    panels = {
        "in use": ("weights in use", "% of the weights", 100.0),
        "change": ("change with time", "% off the mean", change),
        "strength": ("strength of the prompts", "RMS added", strength),
    }
    values = {
        "in use": [100 * each.in_use / each.weights.shape[1] for each in blocks],
        "change": [100 * each.change for each in blocks],
        "strength": [each.strength for each in blocks],
    }
    for name, (title, unit, top) in panels.items():
        image = _over_time(axes[name], torch.stack(values[name]).numpy(), survey)
        image.set(cmap="viridis", norm=Normalize(0, top))
        axes[name].set_title(title)
        axes[name].figure.colorbar(image, ax=axes[name], label=unit)


def _draw_weights(axes: dict[str, Any], survey: Survey, reach: float) -> None:
    """The weights relative to equal ones, from 2**-reach to 2**reach; dropped weights are grey."""
    norm = Normalize(-reach, reach)
    blocks = survey.blocks
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.6")
    rows = min(MOST_ROWS, max(block.weights.shape[1] for block in blocks))
    strips = [functional.adaptive_avg_pool1d(_relative_weights(each), rows).T for each in blocks]
    image = _over_time(axes["weights"], _log2(torch.cat(strips), survey.config), survey)
    image.set(cmap=colours, norm=norm)
    axes["weights"].set_title(f"weights of the {_weighed(survey.config)}")
    if "maps" in axes:
        image = _draw_maps(axes["maps"], survey)
        image.set(cmap=colours, norm=norm)
    bar = image.axes.figure.colorbar(image, ax=image.axes, label="times an equal weight")
    bar.set_ticks([-reach, 0, reach], labels=[f"1/{2**reach:.3g}", "1", f"{2**reach:.3g}"])


def _draw_maps(axes: Any, survey: Survey) -> Any:
    """One map of the positions for each block (down) and a few timesteps (across)."""
    grids = [position_grid(survey.config, block.site) or (1, 1) for block in survey.blocks]
    height, width = max(rows for rows, _ in grids), max(columns for _, columns in grids)
    chosen = evenly_spaced(len(survey.timesteps), MAPS)[::-1]
    lines = []
    for block, grid in zip(survey.blocks, grids, strict=True):
        maps = _relative_weights(block)[list(chosen)].unflatten(1, (1, *grid))
        maps = functional.interpolate(maps, size=(height, width), mode="nearest")[:, 0]
        lines.append(maps.permute(1, 0, 2).flatten(1))
    image = axes.imshow(_log2(torch.cat(lines), survey.config), aspect="auto", interpolation="none")
    axes.set_title("the same weights in their positions")
    axes.set_xlabel(TIME)
    middles = [(index + 0.5) * width - 0.5 for index in range(len(chosen))]
    axes.set_xticks(middles, [str(survey.timesteps[index]) for index in chosen])
    axes.tick_params(length=0)
    for index in range(1, len(chosen)):
        axes.axvline(index * width - 0.5, color="black", linewidth=1)
    _label_blocks(axes, survey, height)
    return image


def _over_time(axes: Any, values: Array, survey: Survey) -> Any:
    """Values [rows, T], equally many rows for each block, as a heat map over the timesteps."""
    first, last = survey.timesteps[0], survey.timesteps[-1]
    half = (last - first) / max(len(survey.timesteps) - 1, 1) / 2 or 0.5
    extent = (last + half, first - half, len(values) - 0.5, -0.5)
    image = axes.imshow(values[:, ::-1], aspect="auto", extent=extent, interpolation="none")
    axes.set_xlabel(TIME)
    _label_blocks(axes, survey, len(values) // len(survey.blocks))
    return image


def _label_blocks(axes: Any, survey: Survey, rows: int) -> None:
    """Names of the blocks on the left, and lines between them where a block has several rows."""
    names = [each.site.name.replace("transformer_blocks.", "block ") for each in survey.blocks]
    axes.set_yticks([(index + 0.5) * rows - 0.5 for index in range(len(names))], names)
    axes.tick_params(axis="y", length=0)
    if rows > 1:
        for index in range(1, len(names)):
            axes.axhline(index * rows - 0.5, color="black", linewidth=1)


def _relative_weights(block: BlockSurvey) -> Tensor:
    """A gate's weights [T, rows] as multiples of the weight that all would have if equal."""
    return block.weights * block.weights.shape[1]


def _log2(values: Tensor, config: BankConfig) -> Array:
    """Base-2 logarithms; masked where top-k set the weight to zero."""
    found = values.log2().numpy()
    if config.topk < 1:
        return np.ma.masked_invalid(found)
    # a kept weight can be too small for a float; that is harmless
    return np.maximum(found, np.finfo(found.dtype).min)


def position_grid(config: BankConfig, site: Site) -> tuple[int, int] | None:
    """Rows and columns of the positions that a gate weighs; None where it weighs whole prompts."""
    if config.gate is GateKind.MIXTURE or config.prepended:
        return None
    if config.gate_grid is not None:
        return config.grid(site)
    # transformers with prompts make only square images
    side = isqrt(site.shape[0])
    return (side, side) if side * side == site.shape[0] else None


def _facts(survey: Survey) -> str:
    """The bank in words: its gate, the gate's input and the number of weights."""
    config = survey.config
    name = f"{survey.name}, with weight {survey.scale:.4g}: " if survey.name else ""
    rows = " or ".join(str(rows) for rows in config.gates)
    mean = f", mean over {len(survey.classes)} of {survey.of_classes} classes"
    kept = f"; the largest {config.topk:.3g} of them kept, the others grey"
    return (
        f"{name}{config.gate.value} gate, input: {config.gate_input.value}"
        f"{mean if survey.classes else ''}, weighs {rows} {_weighed(config)}"
        f"{'' if config.topk == 1 else kept}"
    )


def _weighed(config: BankConfig) -> str:
    """A word for the things that a gate weights."""
    return "prompts" if config.gate is GateKind.MIXTURE or config.prepended else "positions"
