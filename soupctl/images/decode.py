"""Image files of a data shard, decoded within a stated bound of memory.

Rule 1: format, size and planes are read from the header and bounded before a pixel is decoded.
Rule 2: besides its file, an image takes at most 12 bytes a pixel, and what a plug-in of Pillow
needs: it is put on white and converted a strip at a time. Of large images, a process decodes one at
a time.
Rule 3: any failure to decode an image is an InputError, whichever of its many errors Pillow raises.
Rule 4: only the formats named here, and those of `plug_ins`, are tried: for some others, Pillow
starts other programs.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from ..errors import InputError
from ..ledger.image_metadata import LFS_POINTER
from ..storage.files import read_file
from . import plug_ins

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
WIDE_GREY = ("F", "I", "I;16", "I;16B", "I;16L")
"""Pillow's modes with more than 8 bits a pixel."""
UNBOUNDED_GREY = ("F", "I")
"""Modes that do not define which value is white."""
WHITES = (1, 255, 65_535)
"""Possible values of white in a float image; 1 is impossible with 32-bit integers."""
DARKEST = 16
"""An image of which no value is above this fraction of white, but some above 0, is misread."""
MOST_PIXELS = 1 << 27
"""Most pixels of an image, such as 11,585 x 11,585."""
LARGEST_FILE = 1 << 29
"""Most bytes of an image file."""
MOST_PLANES = 5
"""Most samples of a pixel: four colours and transparency."""
LARGE_IMAGE, LARGE_FILE = 1 << 24, 1 << 26
"""Pixels and bytes beyond which images are decoded one at a time."""
STRIP = 1 << 20
"""Pixels that are converted at a time."""
ORIENTATION = 274
"""The tag of an image's orientation."""
TURNED = (5, 6, 7, 8)
"""Orientations of images that are stored with width and height exchanged."""
TILE_WIDTH, TILE_LENGTH, SAMPLES_PER_PIXEL, PHOTOMETRIC = 322, 323, 277, 262
"""Tags of a TIFF file."""
WHITE_IS_ZERO = 0
"""The photometric interpretation of a TIFF file whose largest value is black."""

_one_large = threading.RLock()


class TooLarge(InputError):
    """An image file that exceeds the limits."""


class AnimatedJxl(InputError):
    """An animation of JPEG XL, whose plug-in shows the last frame."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The header of an image file."""

    size: tuple[int, int]
    """Width and height in pixels, upright."""
    has_alpha: bool
    has_frames: bool
    """Whether there are more frames than the first, which is the one that is used."""


def read_image_file(path: Path) -> bytes:
    """The bytes of an image file; InputError if it is unreadable, TooLarge beyond LARGEST_FILE."""
    try:
        size = path.stat().st_size
    except OSError:
        # opening the file reports the reason
        size = 0
    if size > LARGEST_FILE:
        raise TooLarge(f"has {size} bytes, and an image has at most {LARGEST_FILE}", path=path)
    return read_file(path, limit=LARGEST_FILE)


@contextmanager
def one_large_file(path: Path) -> Iterator[None]:
    """Wait until no other large file is in memory, if the one at `path` is large."""
    try:
        is_large = path.stat().st_size > LARGE_FILE
    except OSError:
        is_large = False
    with _one_large if is_large else nullcontext():
        yield


def check_image(data: bytes, path: Path) -> ImageHeader:
    """The header of an image file, after decoding it once; TooLarge or InputError for a bad one."""
    with _opened(data, path) as image:
        is_wide = _has_wide_colours(image)
        has_frames = bool(getattr(image, "is_animated", False))
        size = image.size[::-1] if image.getexif().get(ORIENTATION) in TURNED else image.size
        found = ImageHeader(size, image.has_transparency_data, has_frames)
        # decoding detects a truncated file; for JPEG, an eighth of the resolution is enough
        image.draft(None, (1, 1))
        image.load()
        if is_wide:
            _require_light(image)
        # the orientation tag and the color mode can be invalid as well
        ImageOps.exif_transpose(image, in_place=True)
        _converted(image.crop((0, 0, image.width, 1)), "RGB", _white(image))
        return found


def decode_image(data: bytes, path: Path, channels: int) -> Image.Image:
    """The image upright, on white if it is transparent, with 1 or 3 channels.

    Raises TooLarge beyond the bounds, InputError if it cannot be decoded.
    """
    mode = "L" if channels == 1 else "RGB"
    with _opened(data, path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        made, white = Image.new(mode, image.size), _white(image)
        rows = max(STRIP // image.width, 1)
        for top in range(0, image.height, rows):
            bottom = min(top + rows, image.height)
            strip = image.crop((0, top, image.width, bottom))
            made.paste(_converted(strip, mode, white), (0, top))
        return made


@contextmanager
def _opened(data: bytes, path: Path) -> Iterator[Image.Image]:
    """An image whose header is within the bounds; errors in the block are InputErrors."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data, path)) as image:
            _require_bounded(image, path)
            is_large = image.width * image.height > LARGE_IMAGE
            with _one_large if is_large else nullcontext():
                yield image
    except (MemoryError, InputError):
        # not caused by the file, or already reported
        raise
    except UnidentifiedImageError:
        if not data:
            raise InputError("cannot be decoded: has 0 bytes", path=path) from None
        if data.startswith(LFS_POINTER):
            what = "cannot be decoded: is a pointer of Git LFS"
            raise InputError(what, path=path, advice="git lfs pull") from None
        what = "cannot be decoded: is not a PNG, JPEG, WebP, BMP, TIFF, GIF or AVIF image"
        raise InputError(what, path=path) from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        what = f"cannot be decoded: {reason or type(error).__name__}"
        raise InputError(what, path=path) from error


def _formats(data: bytes, path: Path) -> Sequence[str]:
    """The formats to try; TooLarge for an image that its plug-in would decode to open it."""
    kind = plug_ins.format_of(data)
    if kind is None or not plug_ins.register(kind):
        return FORMATS
    if kind == plug_ins.JXL:
        header = plug_ins.jxl_header(data)
        _require_size(header.size, path)
        if header.is_animated:
            raise AnimatedJxl(
                "is an animation, of which no plug-in shows the first frame", path=path
            )
    return (*FORMATS, kind)


def _require_size(size: tuple[int, int], path: Path) -> None:
    """Raise TooLarge for more pixels than an image may have."""
    if size[0] * size[1] > MOST_PIXELS:
        what = f"has {size[0]} x {size[1]} pixels, and an image has at most {MOST_PIXELS}"
        raise TooLarge(what, path=path)


def _require_bounded(image: Image.Image, path: Path) -> None:
    """Raise TooLarge for an image that would take too much memory to decode."""
    tags: Any = getattr(image, "tag_v2", {})
    for size in (image.size, (tags.get(TILE_WIDTH, 1), tags.get(TILE_LENGTH, 1))):
        _require_size(size, path)
    if (planes := tags.get(SAMPLES_PER_PIXEL, 1)) > MOST_PLANES:
        raise TooLarge(f"has {planes} planes, and an image at most {MOST_PLANES}", path=path)


def _white(image: Image.Image) -> int:
    """The value of white in a gray image of more than 8 bits; ValueError if there is none.

    If the mode does not define it, the smallest usual value that no pixel exceeds. An image that
    would be nearly black has no usual white: its values have another scale, such as 12 bits.
    """
    if image.mode not in WIDE_GREY:
        return WHITES[-1]
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        # Pillow would show a negative
        raise ValueError("has white as 0")
    values = np.asarray(image)
    least, most = float(values.min()), float(values.max())
    whites = WHITES if image.mode == "F" else WHITES[1:]
    usual = whites if image.mode in UNBOUNDED_GREY else WHITES[-1:]
    for white in usual:
        if least >= 0 and most <= white and (most == 0 or most * DARKEST > white):
            return white
    raise ValueError(f"has values from {least:g} to {most:g}, and no usual white")


def _has_wide_colours(image: Image.Image) -> bool:
    """Whether an image, not yet decoded, has 16 bits for each colour, of which Pillow drops 8."""
    if image.format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA"):
        return False
    return any(";16" in str(tile[3]) for tile in image.tile)


def _require_light(image: Image.Image) -> None:
    """Raise ValueError for a decoded image that is nearly black in the upper 8 of its 16 bits."""
    most = max(high for _, high in image.getextrema()[:3])
    if most * DARKEST <= WHITES[1]:
        raise ValueError("has 16 bits for each colour, and is nearly black")


def _converted(strip: Image.Image, mode: str, white: int) -> Image.Image:
    """A strip of an image in a mode, on white if it is transparent; wide gray becomes 8-bit."""
    if strip.mode in WIDE_GREY:
        values = np.asarray(strip, np.float64) * (255 / white)
        strip = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    elif strip.has_transparency_data:
        rgba = strip.convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return strip.convert(mode)


# prompts and workflows, compressed in an image, may be longer; all together are still bounded
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Pillow only warns up to twice its own limit; the bounds above replace it
Image.MAX_IMAGE_PIXELS = None
