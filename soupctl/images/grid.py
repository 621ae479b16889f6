"""Images from models as PNG files: one by one, and in grids with labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from ..storage.atomic import publish_bytes

SMALLEST = 64
"""The least length of the shorter side of an image in a grid, in pixels."""
GAP = 2
"""Pixels between the images of a grid."""
LABEL, LABEL_GAP = 20, 20
"""Height of a label, and space between labelled pictures side by side, in pixels."""
LETTERS = 12
"""Height of the letters of a label in pixels."""


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture as a PNG file; see `save_png`."""
    save_png(path, png(picture))


def save_png(path: Path, data: bytes) -> None:
    """Write a PNG file in place of an earlier one of that name; OutputError if that fails."""
    path.parent.mkdir(exist_ok=True)
    publish_bytes(path, data, replace=True)


def png(picture: Image.Image) -> bytes:
    """The bytes of a picture's PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def as_picture(image: torch.Tensor) -> Image.Image:
    """An image [C, H, W] in [-1, 1] as a picture, pixel by pixel."""
    return Image.fromarray(_rgb(image[None])[0])


def grid(images: torch.Tensor, labels: Sequence[str] = ()) -> Image.Image:
    """Images [N, C, H, W] in [-1, 1] in a grid as square as possible, each below its label."""
    columns = ceil(sqrt(len(images)))
    tiles = _tiles(images)
    if labels:
        tiles = [labelled(label, tile) for label, tile in zip(labels, tiles, strict=True)]
    rows = [_row(tiles[start : start + columns], GAP) for start in range(0, len(tiles), columns)]
    return _column(rows)


def grid_of_rows(rows: torch.Tensor, labels: Sequence[str]) -> Image.Image:
    """Images [R, N, C, H, W] in [-1, 1], R rows of N, each row below its label if there is one."""
    pictures = [_row(_tiles(images), GAP) for images in rows]
    if labels:
        pictures = [labelled(label, row) for label, row in zip(labels, pictures, strict=True)]
    return _column(pictures)


def side_by_side(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures in a row, each below its label."""
    return _row([labelled(label, picture) for label, picture in pictures], LABEL_GAP)


def labelled(label: str, picture: Image.Image) -> Image.Image:
    """The picture with a label above it; see `shortened`."""
    whole = Image.new("RGB", (picture.width, LABEL + picture.height), "white")
    text, font = shortened(label, picture.width), ImageFont.load_default(LETTERS)
    ImageDraw.Draw(whole).text((0, 3), text, fill="black", font=font)
    whole.paste(picture, (0, LABEL))
    return whole


def shortened(label: str, width: int) -> str:
    """The label on one line of at most `width` pixels, its middle left out if it is too long.

    Characters that the font lacks are escaped.
    """
    font = ImageFont.load_default(LETTERS)
    text = "".join(each if each.isprintable() else " " for each in label)
    shown = text = text.encode("ascii", "backslashreplace").decode()
    kept = len(text)
    while kept and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
    return shown


def _tiles(images: torch.Tensor) -> list[Image.Image]:
    """A picture of each image; small ones are enlarged by a whole factor."""
    height, width = images.shape[2:]
    factor = max(1, -(-SMALLEST // min(height, width)))
    size = (width * factor, height * factor)
    return [Image.fromarray(each).resize(size, Image.Resampling.NEAREST) for each in _rgb(images)]


def _rgb(images: torch.Tensor) -> Any:
    """Images [N, C, H, W] in [-1, 1] as bytes [N, H, W, 3]; grey ones get three channels."""
    values = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    values = values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values
    return values.permute(0, 2, 3, 1).contiguous().numpy()


def _row(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    """Pictures side by side, aligned at the top."""
    width = sum(each.width for each in pictures) + gap * (len(pictures) - 1)
    whole, left = Image.new("RGB", (width, max(each.height for each in pictures)), "white"), 0
    for each in pictures:
        whole.paste(each, (left, 0))
        left += each.width + gap
    return whole


def _column(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other, aligned at the left."""
    height = sum(each.height for each in pictures) + GAP * (len(pictures) - 1)
    whole, top = Image.new("RGB", (max(each.width for each in pictures), height), "white"), 0
    for each in pictures:
        whole.paste(each, (0, top))
        top += each.height + GAP
    return whole
