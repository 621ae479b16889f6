"""Pictures of a run: grids of samples and the course of the loss, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from ..storage.publish import publish_file, write_at

WIDTH, HEIGHT, MARGIN = 960, 480, 64
SMALLEST = 64
"""Pixels that a side of a sample is shown with at least."""


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture, in place of an earlier one of that name; OutputError if that fails."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = buffer.getvalue()
    path.parent.mkdir(exist_ok=True)
    with publish_file(path, len(data), replace=True) as fd:
        write_at(fd, data, 0)


def grid(images: torch.Tensor, columns: int) -> Image.Image:
    """Images [N, C, H, W] in [-1, 1], row by row; small ones are enlarged so that one sees them."""
    values = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    values = values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values
    count, _, height, width = values.shape
    enlarged = max(1, -(-SMALLEST // min(height, width)))
    cell = (width * enlarged, height * enlarged)
    gap = 2
    rows = -(-count // columns)
    size = (columns * (cell[0] + gap) - gap, rows * (cell[1] + gap) - gap)
    picture = Image.new("RGB", size, "white")
    for index, image in enumerate(values.permute(0, 2, 3, 1).contiguous().numpy()):
        row, column = divmod(index, columns)
        shown = Image.fromarray(image).resize(cell, Image.Resampling.NEAREST)
        picture.paste(shown, (column * (cell[0] + gap), row * (cell[1] + gap)))
    return picture


def plot(points: Sequence[tuple[int, float]], smoothed: Sequence[tuple[int, float]]) -> Image.Image:
    """The loss by step: `points` in grey, and a smoothed line over them."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    low, high = min(losses), max(losses)
    first, last = min(steps), max(steps)

    def place(step: int, loss: float) -> tuple[float, float]:
        across = (step - first) / max(last - first, 1)
        up = (loss - low) / ((high - low) or 1)
        return (
            MARGIN + across * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN),
        )

    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        loss = low + fraction * (high - low)
        left, y = place(first, loss)
        draw.line([(left, y), (WIDTH - MARGIN, y)], fill="#dddddd")
        draw.text((8, y - 6), f"{loss:.4g}", fill="black")
        x, bottom = place(round(first + fraction * (last - first)), low)
        draw.text((x - 8, bottom + 8), str(round(first + fraction * (last - first))), fill="black")
    draw.text((WIDTH / 2 - 40, HEIGHT - 24), "step", fill="black")
    draw.text((8, 16), "loss", fill="black")
    _line(draw, [place(*point) for point in points], "#b0b0b0", 1)
    _line(draw, [place(*point) for point in smoothed], "#c03020", 3)
    return picture


def _line(
    draw: ImageDraw.ImageDraw, places: list[tuple[float, float]], colour: str, width: int
) -> None:
    if len(places) == 1:
        x, y = places[0]
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
    else:
        draw.line(places, fill=colour, width=width, joint="curve")
