"""Heat maps: numbers as colours, with the scale that says which is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SEQUENTIAL = ("#ffffff", "#c7dcef", "#6baed6", "#2171b5", "#08306b")
DIVERGING = ("#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b")

SMALL, LARGE = 12, 16
"""Heights of letters in pixels."""
LINE = 18
"""Pixels from one line of text to the next."""
GREY = "#606060"
NOTHING = (154, 154, 154)
"""The colour of what is not on a scale at all: the logarithm of zero."""
BAR = (160, 10)
"""Width and height of a scale."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Which number has which colour; what lies beyond an end has the colour of that end."""

    low: float
    high: float
    colours: tuple[str, ...]
    labels: tuple[str, ...]
    """What is written below the scale, evenly, from the low to the high end."""

    def coloured(self, values: Tensor) -> Tensor:
        """Values of any shape as bytes [..., 3]."""
        anchors = torch.tensor(
            [[int(each[start : start + 2], 16) for start in (1, 3, 5)] for each in self.colours],
            dtype=torch.float64,
        )
        place = ((values.double() - self.low) / (self.high - self.low)).clamp(0, 1)
        place = place * (len(anchors) - 1)
        below = place.floor().clamp(max=len(anchors) - 2)
        part = (place - below)[..., None]
        mixed = anchors[below.long()] * (1 - part) + anchors[below.long() + 1] * part
        mixed[values.isneginf()] = torch.tensor(NOTHING, dtype=torch.float64)
        return mixed.round().to(torch.uint8)


def heat_map(values: Tensor, scale: Scale, width: int, height: int) -> Image.Image:
    """Values [rows, columns] as a picture of that size."""
    picture = Image.fromarray(scale.coloured(values).numpy())
    shown = picture.resize((width, height), Image.Resampling.NEAREST)
    ImageDraw.Draw(shown).rectangle([0, 0, width - 1, height - 1], outline="#a0a0a0")
    return shown


def scale_bar(scale: Scale) -> Image.Image:
    """The colours of a scale from low to high, with its labels below."""
    width, height = BAR
    margin = 40
    picture = blank(width + 2 * margin, height + LINE)
    ramp = torch.linspace(scale.low, scale.high, width)[None]
    picture.paste(heat_map(ramp, scale, width, height), (margin, 0))
    for index, label in enumerate(scale.labels):
        x = margin + index * (width - 1) / max(len(scale.labels) - 1, 1)
        write(picture, (x, height + 2), label, "ma")
    return picture


def blank(width: int, height: int) -> Image.Image:
    """A white picture."""
    return Image.new("RGB", (width, height), "white")


def write(
    picture: Image.Image,
    place: tuple[float, float],
    text: str,
    anchor: str = "la",
    *,
    size: int = SMALL,
    colour: str = "black",
) -> None:
    """Write onto a picture, in letters that the font has; `anchor` as Pillow has it."""
    plain = text.encode("ascii", "backslashreplace").decode()
    draw = ImageDraw.Draw(picture)
    draw.text(place, plain, fill=colour, font=_font(size), anchor=anchor)


def text_width(text: str, size: int = SMALL) -> int:
    """Pixels that a text takes."""
    return int(_font(size).getlength(text)) + 1


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def beside(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    """Pictures in a row, aligned at the top."""
    width = sum(each.width for each in pictures) + gap * (len(pictures) - 1)
    whole, left = blank(width, max(each.height for each in pictures)), 0
    for each in pictures:
        whole.paste(each, (left, 0))
        left += each.width + gap
    return whole


def stacked(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    """Pictures one below the other, aligned at the left."""
    height = sum(each.height for each in pictures) + gap * (len(pictures) - 1)
    whole, top = blank(max(each.width for each in pictures), height), 0
    for each in pictures:
        whole.paste(each, (0, top))
        top += each.height + gap
    return whole


def framed(picture: Image.Image, margin: int) -> Image.Image:
    """A picture with white around it."""
    whole = blank(picture.width + 2 * margin, picture.height + 2 * margin)
    whole.paste(picture, (margin, margin))
    return whole
