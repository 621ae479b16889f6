"""A picture of what a bank's gates say: over timesteps, from noise to image, and over blocks.

Rule 1: time goes from left to right as denoising goes, so from the last timestep to 0.
Rule 2: one scale serves all blocks and all banks of a stack, so that they can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt, log, log2

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from ..banks.config import BankConfig, GateKind, Site
from ..banks.gate_survey import BlockSurvey, Survey, evenly
from .heat import (
    DIVERGING,
    GREY,
    LARGE,
    LINE,
    SEQUENTIAL,
    SMALL,
    Scale,
    beside,
    blank,
    framed,
    heat_map,
    scale_bar,
    stacked,
    text_width,
    write,
)

WIDTH = 320
"""Pixels of the course of time."""
STRIP = 72
"""Pixels that a block is high where it is shown alone, and the longer side of its maps."""
MAPS = 9
"""Timesteps at which the weights are shown in their places."""
COLUMNS = 3
"""Blocks that are shown side by side if they have no maps."""
AXIS = 2 * LINE
"""Pixels for the axis of time below a heat map."""
LEAST_FACTOR, LEAST_MOVED = 1.01, 0.001
"""Where the scales end at least, so that roundings do not look like something."""
BITS = 1e6
"""More powers of two than any weight is away from a uniform one."""
GAP, MARGIN = 24, 20
NUMBER = 72
"""Pixels for the number at the end of a row."""


def draw_gates(surveys: Sequence[Survey], title: str) -> Image.Image:
    """The picture of a bank, or of the banks of a stack, one below the other."""
    blocks = [block for each in surveys for block in each.blocks]
    strongest = max(float(each.strength.max()) for each in blocks) or 1.0
    most_moved = max(LEAST_MOVED, *(float(each.moved.max()) for each in blocks))
    scale = _weight_scale(blocks)
    overview = (
        Scale(0, 1, SEQUENTIAL, ("one", "all")),
        Scale(0, most_moved, SEQUENTIAL, ("0 %", _percent(most_moved))),
        Scale(0, strongest, SEQUENTIAL, ("0", _short(strongest))),
    )
    parts = [_line(title, LARGE)]
    for each in surveys:
        label = 12 + max(text_width(_name(block.site)) for block in each.blocks)
        parts += [_facts(each), _overview(each, overview, label), _strips(each, scale, label)]
    return framed(stacked(parts, GAP // 2), MARGIN)


def _weight_scale(blocks: Sequence[BlockSurvey]) -> Scale:
    """The scale of weights beside uniform ones, in powers of two, the same either way."""
    above = max(float(_relative(each).max()) for each in blocks)
    below = -min(float(_relative(each).min()) for each in blocks)
    # a weight can be as little as zero: what is below a limit looks like it
    reach = max(log2(LEAST_FACTOR), above, min(below, 3.0))
    factor = f"{2**reach:.3g}"
    return Scale(-reach, reach, DIVERGING, (f"x 1/{factor}", "uniform", f"x {factor}"))


def _relative(block: BlockSurvey, most_rows: int | None = None) -> Tensor:
    """The weights beside uniform ones, [T, rows], as logarithms to base 2.

    Of more than `most_rows`, several neighbours are told as their mean.
    """
    values = block.weights * block.weights.shape[1]
    if most_rows is not None and values.shape[1] > most_rows:
        values = functional.adaptive_avg_pool1d(values, most_rows)
    return values.log2()


def _shown(block: BlockSurvey, config: BankConfig, most_rows: int | None = None) -> Tensor:
    """The same as it is shown: only what a gate does not keep is zero."""
    values = _relative(block, most_rows)
    # a weight can be too small for a float, which is no more than that
    return values if config.topk < 1 else values.clamp(min=-BITS)


def _facts(survey: Survey) -> Image.Image:
    """What bank it is, in words."""
    config = survey.config
    rows = " or ".join(str(rows) for rows in config.gates)
    name = f"{survey.name}, with weight {survey.scale:.4g}: " if survey.name else ""
    mean = f", in the mean over {len(survey.classes)} of {survey.of_classes} classes"
    mean = mean if survey.classes else ""
    kept = "" if config.topk == 1 else f"; the largest {config.topk:.3g} of them kept, others grey"
    return _line(
        f"{name}a {config.gate.value} gate on {config.gate_input.value}{mean}, with {rows} weights"
        f" ({_what(config)}){kept}"
    )


def _line(text: str, size: int = SMALL) -> Image.Image:
    """A line of text."""
    picture = blank(text_width(text, size), size + 6)
    write(picture, (0, 0), text, size=size)
    return picture


def _overview(survey: Survey, scales: tuple[Scale, Scale, Scale], label: int) -> Image.Image:
    """All blocks over time, in three ways."""
    blocks = survey.blocks
    height = min(28, max(14, 320 // len(blocks)))
    names = blank(label, 2 * LINE + height * len(blocks))
    for index, each in enumerate(blocks):
        middle = 2 * LINE + (index + 0.5) * height
        write(names, (label - 8, middle), _name(each.site), "rm")
    panels = []
    for (titles, values, means), scale in zip(_views(blocks), scales, strict=True):
        picture = _over_time(values, scale, height * len(blocks), survey.timesteps)
        panels.append(_titled(titles, picture, means, scale))
    return beside([names, beside(panels, GAP)], 0)


def _views(
    blocks: Sequence[BlockSurvey],
) -> Iterator[tuple[tuple[str, str], Tensor, list[str]]]:
    """Titles, values [blocks, T] and their means in words: of each way of looking at all blocks."""
    rows = [each.weights.shape[1] for each in blocks]
    # of a gate with one weight, that is all there are
    shares = [
        each.entropy / log(n) if n > 1 else torch.ones_like(each.entropy)
        for each, n in zip(blocks, rows, strict=True)
    ]
    in_use = [f"{each.in_use.mean():.3g} of {n}" for each, n in zip(blocks, rows, strict=True)]
    yield ("weights in use", "exp(entropy), on a logarithmic scale"), torch.stack(shares), in_use
    moved = torch.stack([each.moved for each in blocks])
    means = [_percent(float(each.mean())) for each in moved]
    yield ("varies with time", "share that lies off its mean over time"), moved, means
    strength = torch.stack([each.strength for each in blocks])
    means = [_short(float(each.mean())) for each in strength]
    yield ("strength", "RMS of what is added to the input"), strength, means


def _titled(
    titles: tuple[str, str], picture: Image.Image, rows: Sequence[str], scale: Scale
) -> Image.Image:
    """A heat map over time with its titles, the mean of each row, and its scale."""
    whole = blank(WIDTH + NUMBER, 2 * LINE + picture.height + 2 * LINE)
    write(whole, (0, 0), titles[0])
    write(whole, (0, LINE - 2), titles[1], colour=GREY)
    write(whole, (WIDTH + 4, LINE - 2), "mean", colour=GREY)
    whole.paste(picture, (0, 2 * LINE))
    height = (picture.height - AXIS) / len(rows)
    for index, text in enumerate(rows):
        write(whole, (WIDTH + 4, 2 * LINE + (index + 0.5) * height), text, "lm")
    bar = scale_bar(scale)
    whole.paste(bar, ((WIDTH - bar.width) // 2, 2 * LINE + picture.height + 2))
    return whole


def _over_time(values: Tensor, scale: Scale, height: int, timesteps: Sequence[int]) -> Image.Image:
    """Values [rows, T] as a heat map above an axis of time, which ends at timestep 0."""
    picture = blank(WIDTH, height + AXIS)
    picture.paste(heat_map(values.flip(1), scale, WIDTH, height), (0, 0))
    draw = ImageDraw.Draw(picture)
    last = timesteps[-1]
    for index, timestep in enumerate(ticks := sorted({*range(0, last, -(-last // 4)), last})):
        x = (WIDTH - 1) * (1 - timestep / max(last, 1))
        draw.line([(x, height), (x, height + 3)], fill="black")
        anchor = {0: "ra", len(ticks) - 1: "la"}.get(index, "ma")
        write(picture, (x, height + 4), str(timestep), anchor)
    write(picture, (WIDTH / 2, height + LINE), "noise  -  timestep  -  image", "ma", colour=GREY)
    return picture


def _strips(survey: Survey, scale: Scale, label: int) -> Image.Image:
    """Every block's weights over time, and where they are places, as maps."""
    has_maps = grid_of(survey.config, survey.blocks[0].site) is not None
    count = -(-len(survey.blocks) // (1 if has_maps else COLUMNS))
    columns = []
    for start in range(0, len(survey.blocks), count):
        blocks = survey.blocks[start : start + count]
        strips = [_strip(each, survey, scale, label, is_last=each is blocks[-1]) for each in blocks]
        columns.append(stacked(strips, 8))
    what = f"the gate's weights; rows are {_what(survey.config)}"
    if has_maps:
        what += " in reading order, and on the right they are in their places"
    head = blank(label, 1)
    return stacked([beside([head, _line(what), scale_bar(scale)], 0), beside(columns, GAP)], 8)


def _strip(
    block: BlockSurvey, survey: Survey, scale: Scale, label: int, *, is_last: bool
) -> Image.Image:
    """The weights of one block; the last one of a column has the axis of time."""
    names = blank(label, STRIP)
    write(names, (label - 8, STRIP / 2), _name(block.site), "rm")
    values = _shown(block, survey.config, STRIP).T
    if is_last:
        strip = _over_time(values, scale, STRIP, survey.timesteps)
    else:
        strip = heat_map(values.flip(1), scale, WIDTH, STRIP)
    maps = _maps(block, survey, scale, is_last=is_last)
    return beside([names, beside([strip, *maps], GAP)], 0)


def _maps(block: BlockSurvey, survey: Survey, scale: Scale, *, is_last: bool) -> list[Image.Image]:
    """The weights of some timesteps in their places, one row of maps; none if they have none."""
    grid = grid_of(survey.config, block.site)
    if grid is None:
        return []
    height, width = (STRIP * side // max(grid) for side in grid)
    maps = []
    for index in reversed(evenly(len(survey.timesteps), MAPS)):
        picture = blank(STRIP, STRIP + (LINE if is_last else 0))
        values = _shown(block, survey.config)[index].reshape(grid)
        picture.paste(heat_map(values, scale, max(width, 1), max(height, 1)), (0, 0))
        if is_last:
            write(picture, (STRIP / 2, STRIP + 4), f"t = {survey.timesteps[index]}", "ma")
        maps.append(picture)
    return [beside(maps, 8)]


def grid_of(config: BankConfig, site: Site) -> tuple[int, int] | None:
    """Rows and columns of the positions that a gate weighs; None where it weighs whole prompts."""
    if config.gate is GateKind.MIXTURE or config.prepended:
        return None
    if config.gate_grid is not None:
        return config.grid(site)
    # the transformers there are make square images alone
    side = isqrt(site.shape[0])
    return (side, side) if side * side == site.shape[0] else None


def _what(config: BankConfig) -> str:
    """What the weights of a gate are of."""
    return "prompts" if config.gate is GateKind.MIXTURE or config.prepended else "positions"


def _name(site: Site) -> str:
    return site.name.replace("transformer_blocks.", "block ")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.01 or not share else f"{100 * share:.2g} %"


def _short(number: float) -> str:
    return f"{number:.2g}"
