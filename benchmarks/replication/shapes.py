"""Captioned shapes of 8x8 pixels, drawn in code, in eight styles.

Rule 1: a caption is one of 48 combinations of shape, colour, texture and place; models are told its
number, so the words of two captions share nothing.
Rule 2: an image is a function of caption, style and random generator alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

SIDE = 8
SHAPES = ("square", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow")
TEXTURES = ("plain", "striped")
PLACES = ("left", "right")
CAPTIONS = tuple(product(range(3), range(4), range(2), range(2)))
"""Numbers of shape, colour, texture and place of each caption."""
ATTRIBUTES = (len(SHAPES), len(COLOURS), len(TEXTURES), len(PLACES))
STYLES = ("plain", "inverted", "framed", "tinted", "night", "washed", "scanned", "split")
"""`night` is dark, `washed` pale, `scanned` has dark columns, `split` a light lower half."""

_PALETTE = np.array([[230, 40, 40], [40, 200, 60], [60, 80, 240], [230, 210, 40]], np.float64)
_ROW = np.arange(5)
_MASKS = np.zeros((3, 5, 5), bool)
_MASKS[0] = True
_MASKS[1][2] = _MASKS[1][:, 2] = True
_MASKS[2] = True
_MASKS[2][1:4, 1:4] = False

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images with what they show."""

    images: Pixels
    """[count, 8, 8, channels]."""
    labels: npt.NDArray[np.int64]
    """The caption's number, or the digit."""
    styles: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Pictures:
        """Those that are chosen."""
        return Pictures(self.images[chosen], self.labels[chosen], self.styles[chosen])


def joined(parts: list[Pictures]) -> Pictures:
    """All pictures of several sets, in their order."""
    return Pictures(
        np.concatenate([each.images for each in parts]),
        np.concatenate([each.labels for each in parts]),
        np.concatenate([each.styles for each in parts]),
    )


def caption_text(label: int) -> str:
    """A caption in words."""
    shape, colour, texture, place = CAPTIONS[label]
    return f"a {TEXTURES[texture]} {COLOURS[colour]} {SHAPES[shape]} on the {PLACES[place]}"


def drawn(label: int, style: int, random: np.random.Generator, *, messy: bool = False) -> Pixels:
    """One image, [8, 8, 3]; a messy one has weak contrast and much grain."""
    shape, colour, texture, place = CAPTIONS[label]
    image = np.full((SIDE, SIDE, 3), random.uniform(15, 45))
    top, left = random.integers(4), 3 * place
    patch = np.where(_MASKS[shape][..., None], _PALETTE[colour] * random.uniform(0.85, 1.0), 0)
    if texture:
        patch[_ROW % 2 == 1] *= 0.45
    window = image[top : top + 5, left : left + 5]
    window[_MASKS[shape]] = patch[_MASKS[shape]]
    image = _STYLED[STYLES[style]](image)
    if messy:
        image = 128 + (image - 128) * random.uniform(0.45, 0.9)
    image += random.normal(0, 26 if messy else 5, image.shape)
    return image.clip(0, 255).round().astype(np.uint8)


def _framed(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found = image.copy()
    found[0] = found[-1] = 235
    found[:, 0] = found[:, -1] = 235
    return np.maximum(found, image)


def _split(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found = image.copy()
    dark = image.max(axis=2) < 60
    dark[: SIDE // 2] = False
    found[dark] = 190
    return found


def _scanned(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found = image + 40
    found[:, 1::2] *= 0.55
    return found


_STYLED = {
    "plain": lambda image: image,
    "inverted": lambda image: 255 - image,
    "framed": _framed,
    "tinted": lambda image: image + np.array([70.0, 0.0, 90.0]) * (image.max(2) < 60)[..., None],
    "night": lambda image: image * 0.45,
    "washed": lambda image: 120 + image * 0.5,
    "scanned": _scanned,
    "split": _split,
}


def shapes(
    count: int,
    random: np.random.Generator,
    *,
    styles: tuple[int, ...] = tuple(range(len(STYLES))),
    messy: bool = False,
    wrong: float = 0.0,
) -> Pictures:
    """`count` shapes, captions and styles in turn; the share `wrong` is captioned as others."""
    order = random.permutation(count)
    labels = order % len(CAPTIONS)
    told = (order // len(CAPTIONS) + order) % len(styles)
    chosen = np.array(styles)[told]
    images = [
        drawn(label, style, random, messy=messy)
        for label, style in zip(labels, chosen, strict=True)
    ]
    lies = random.random(count) < wrong
    labels = np.where(lies, random.integers(len(CAPTIONS), size=count), labels)
    return Pictures(np.stack(images), labels.astype(np.int64), chosen.astype(np.int64))
