"""Images as pixels for the denoiser: scaled, cropped, in [-1, 1].

Rule 1: a crop is a function of its position, so that it can be repeated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..images.decode import decode_image, one_large_file
from .buckets import Size
from .dataset import Sample, read_unchanged

MOST_SCALED = 1 << 25
"""Pixels of a scaled image beyond which only the part that is used is scaled."""


def read_pixels(
    sample: Sample, size: int | Size, channels: int, crop: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """An image as [channels, height, width] in [-1, 1], for a square of a side or another size.

    It is scaled to the smallest size that covers this one; `crop` is the position of the crop, from
    0 (left, top) to 1. Raises InputError if it cannot be decoded, OutputError if it changed since
    the scan.
    """
    with one_large_file(sample.path):
        whole = decode_image(read_unchanged(sample), sample.path, channels)
    size = (size, size) if isinstance(size, int) else size
    (width, height), (left, top) = _scaled_and_cropped(whole.size, size, crop)
    box = (left, top, left + size[0], top + size[1])
    if width * height > MOST_SCALED:
        part = _scaled_part(whole, (width, height), box)
    else:
        if whole.size != (width, height):
            whole = whole.resize((width, height), Image.Resampling.LANCZOS)
        part = whole.crop(box)
    values = np.asarray(part, np.float32).reshape(size[1], size[0], channels)
    return np.ascontiguousarray(values.transpose(2, 0, 1)) / np.float32(127.5) - np.float32(1)


def _scaled_and_cropped(
    size: Size, target: Size, crop: tuple[float, float]
) -> tuple[Size, tuple[int, int]]:
    """Width and height of an image scaled to cover `target`, and the corner of the crop."""
    scale = max(least / side for least, side in zip(target, size, strict=True))
    width, height = (
        max(least, round(side * scale)) for least, side in zip(target, size, strict=True)
    )
    corner = round((width - target[0]) * crop[0]), round((height - target[1]) * crop[1])
    return (width, height), corner


def frame_of(
    size: Size, target: Size, crop: tuple[float, float], *, flipped: bool
) -> tuple[float, ...]:
    """What a crop shows of an image of that width and height: the numbers of a `Frame`.

    An image is mirrored before it is cropped, so far as these numbers tell.
    """
    (width, _), (left, top) = _scaled_and_cropped(size, target, crop)
    left = width - target[0] - left if flipped else left
    return tuple(map(float, (size[1], size[0], top, left, target[1], target[0])))


def _scaled_part(
    whole: Image.Image, scaled: tuple[int, int], box: tuple[int, int, int, int]
) -> Image.Image:
    """The part in `box` of the image scaled to the size `scaled`, without scaling all of it."""
    factors = (whole.width / scaled[0], whole.height / scaled[1])
    left, top = box[0] * factors[0], box[1] * factors[1]
    right, bottom = min(box[2] * factors[0], whole.width), min(box[3] * factors[1], whole.height)
    size = (box[2] - box[0], box[3] - box[1])
    return whole.resize(size, Image.Resampling.LANCZOS, (left, top, right, bottom))
