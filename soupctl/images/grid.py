"""Pictures of a run: grids of samples and the course of the loss, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from ..storage.atomic import publish_bytes

WIDTH, HEIGHT, MARGIN = 960, 480, 64
SMALLEST = 64
"""Pixels that a side of a sample is shown with at least."""
TITLE = 20
"""Pixels that a title is high, and that pictures side by side are apart."""


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture, in place of an earlier one of that name; OutputError if that fails."""
    path.parent.mkdir(exist_ok=True)
    publish_bytes(path, png(picture), replace=True)


def png(picture: Image.Image) -> bytes:
    """The bytes of a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def single(image: torch.Tensor) -> Image.Image:
    """One image [C, H, W] in [-1, 1], pixel by pixel."""
    return Image.fromarray(_colours(image[None]).permute(0, 2, 3, 1).numpy()[0])


def side_by_side(titled: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures in a row, each below its title."""
    width = sum(picture.width for _, picture in titled) + TITLE * (len(titled) - 1)
    height = TITLE + max(picture.height for _, picture in titled)
    whole, left = Image.new("RGB", (width, height), "white"), 0
    draw = ImageDraw.Draw(whole)
    for title, picture in titled:
        draw.text((left, 4), _fitting(draw, title, picture.width), fill="black")
        whole.paste(picture, (left, TITLE))
        left += picture.width + TITLE
    return whole


def _fitting(draw: ImageDraw.ImageDraw, title: str, width: int) -> str:
    """As much of a title's end as there is room for, in letters that the font has."""
    plain = title.encode("ascii", "backslashreplace").decode()
    while plain and draw.textlength(plain) > width:
        plain = plain[1:]
    return plain


def _colours(images: torch.Tensor) -> torch.Tensor:
    """Images [N, C, H, W] in [-1, 1] as bytes, grey ones in three channels."""
    values = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values


def grid(images: torch.Tensor, columns: int) -> Image.Image:
    """Images [N, C, H, W] in [-1, 1], row by row; small ones are enlarged so that one sees them."""
    values = _colours(images)
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
