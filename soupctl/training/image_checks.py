"""The image files of a dataset, each decoded once to check it; see `kept_scan`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blake3 import blake3

from ..checkpoints.digest import PREFIX
from ..errors import SoupError, shortened
from ..images.decode import (
    AnimatedJxl,
    TooLarge,
    check_image,
    one_large_file,
    read_image_file,
)
from ..ledger.data_shard import is_text
from ..storage.reader import FileIdentity
from .image_problems import ImageProblem
from .kept_scan import ScannedImage, keep_scan, read_scan


def bytes_digest(data: bytes) -> str:
    """BLAKE3 of the bytes of an image file."""
    return PREFIX + blake3(data).hexdigest()


def checked_images(
    folder: Path, images: Mapping[str, Path]
) -> dict[str, ScannedImage | ImageProblem]:
    """The images of a folder by name, each with what the scan found or what is wrong with its file.

    The scan is kept for the next time.
    """
    kept, began = read_scan(folder), time.time_ns()
    earlier = map(kept.get, images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(_check_image, images, images.values(), earlier)
        found = dict(zip(images, checked, strict=True))
    good = {name: each for name, each in found.items() if isinstance(each, ScannedImage)}
    if any(kept.get(name) is not each for name, each in good.items()) or kept.keys() - good:
        keep_scan(folder, good, began)
    return found


def _check_image(name: str, path: Path, kept: ScannedImage | None) -> ScannedImage | ImageProblem:
    """The image in a file, or the problem with the file."""
    if not path.exists():
        return ImageProblem("that is a broken link", name)
    if not is_text(name):
        return ImageProblem("with a name that is not valid UTF-8", name)
    if kept is not None and kept.identity.is_at(path):
        return kept
    try:
        identity = FileIdentity.of(path.stat())
        with one_large_file(path):
            data = read_image_file(path)
            header = check_image(data, path)
            digest = bytes_digest(data)
    except TooLarge:
        return ImageProblem("too large to be decoded safely", name)
    except AnimatedJxl:
        kind = "that is an animation of JPEG XL, whose first frame cannot be read"
        return ImageProblem(kind, name)
    except (SoupError, OSError) as error:
        return ImageProblem("unreadable", name, _reason(error))
    return ScannedImage(identity, digest, header)


def _reason(error: SoupError | OSError) -> str:
    """Why an image file cannot be used, in a few words."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return shortened(error.issues[0].what.removeprefix("cannot be decoded: "))
