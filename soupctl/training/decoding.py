"""Images decoded: upright, without transparency, grey or in colour.

Rule 1: whatever a decoder stumbles over is an InputError: it lies in the file, whichever of its
many errors Pillow raises for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import InputError

WIDE_GREY = ("I", "I;16", "I;16B", "I;16L")


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Raise InputError for whatever goes wrong with the image `path` in the block."""
    try:
        yield
    except MemoryError:
        # this one does not lie in the file
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        what = f"cannot be decoded: {reason or type(error).__name__}"
        raise InputError(what, path=path) from error


def plain(image: Image.Image, channels: int) -> Image.Image:
    """The image as a person sees it, on white if it is transparent, with 1 or 3 channels."""
    return _opaque(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")


def _opaque(image: Image.Image) -> Image.Image:
    """The image on white, if it is transparent anywhere; 16-bit grey as 8-bit."""
    if image.mode in WIDE_GREY:
        values = np.asarray(image, np.float64) / 257
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(white, coloured)
