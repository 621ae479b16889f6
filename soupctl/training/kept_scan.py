"""The scan of a dataset's images, kept between runs, so that an image is decoded once to check it.

Rule 1: a kept image counts only while device, inode, size and times of its file are the same; a
file that changed shortly before it was scanned is not kept, as the next change may leave no trace.
Rule 2: only good images are kept, and neither captions nor classes: all problems are found anew.
Rule 3: scans are in the user's cache folder; one that is damaged, or cannot be written, is as none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
from blake3 import blake3

from ..errors import SoupError
from ..images.decode import ImageHeader
from ..storage.atomic import publish_bytes
from ..storage.cache import user_cache
from ..storage.files import read_file
from ..storage.reader import FileIdentity

SCAN_FORMAT = 3
SETTLED = 2_000_000_000
"""Nanoseconds since the last change of a file after which another one shows in its times."""
MOST_SCANS = 64
"""Scans that are kept, the newest."""


@dataclass(frozen=True, slots=True)
class ScannedImage:
    """A good image: its file when it was scanned, the digest of its bytes, and its header."""

    identity: FileIdentity
    digest: str
    header: ImageHeader

    def is_settled(self, now: int) -> bool:
        """Whether a change after `now`, in nanoseconds, would show in the file's times."""
        return max(self.identity.mtime_ns, self.identity.ctime_ns) + SETTLED <= now


def cache_folder() -> Path | None:
    """The folder of kept scans; None for a user without a home."""
    cache = user_cache()
    return None if cache is None else cache / "scans"


def read_scan(folder: Path) -> dict[str, ScannedImage]:
    """The kept scan of a dataset's folder, by the names of its images; empty if there is none."""
    place = _place(folder)
    try:
        if place is None or not place.is_file():
            return {}
        lines = read_file(place, limit=None).decode().splitlines()
        if json.loads(lines[0]) != _head(folder):
            return {}
        return dict(_parsed(json.loads(line)) for line in lines[1:])
    except (SoupError, OSError, ValueError, TypeError, IndexError, RecursionError):
        return {}


def keep_scan(folder: Path, images: Mapping[str, ScannedImage], began: int) -> None:
    """Keep the scan of a dataset's folder, in place of an earlier one, if it can be written.

    `began` is the time, in nanoseconds, when it began.
    """
    place = _place(folder)
    if place is None:
        return
    rows = [_row(name, image) for name, image in images.items() if image.is_settled(began)]
    data = "".join(json.dumps(row) + "\n" for row in (_head(folder), *rows))
    # without a place to keep it, the next run decodes the images again
    with suppress(SoupError, OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        publish_bytes(place, data.encode(), replace=True)
        _remove(_oldest_last(place.parent.glob("*.jsonl"))[MOST_SCANS:])


def forget_scan(folder: Path) -> None:
    """Remove the kept scan of a dataset's folder, if there is one."""
    if (place := _place(folder)) is not None:
        _remove([place])


def _place(folder: Path) -> Path | None:
    cache = cache_folder()
    if cache is None:
        return None
    name = blake3(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    return cache / f"{name}.jsonl"


def _oldest_last(scans: Iterable[Path]) -> list[Path]:
    return sorted(scans, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _remove(scans: Iterable[Path]) -> None:
    for path in scans:
        with suppress(OSError):
            path.unlink()


def _head(folder: Path) -> dict[str, Any]:
    # another version of Pillow may read other images
    text = os.fsencode(os.path.realpath(folder)).decode("utf-8", "backslashreplace")
    return {"folder": text, "format": SCAN_FORMAT, "pillow": PIL.__version__}


def _row(name: str, image: ScannedImage) -> list[Any]:
    header = image.header
    facts = [*header.size, int(header.has_alpha), int(header.has_frames)]
    return [name, image.digest, *image.identity, *facts]


def _parsed(row: list[Any]) -> tuple[str, ScannedImage]:
    """The name and the image in a row; ValueError or TypeError if it is malformed."""
    name, digest, *numbers = row
    if not (isinstance(name, str) and isinstance(digest, str)):
        raise TypeError("a text is missing")
    if len(numbers) != len(FileIdentity._fields) + 4 or {type(each) for each in numbers} != {int}:
        raise ValueError("not the numbers of an image")
    *identity, width, height, has_alpha, has_frames = numbers
    header = ImageHeader((width, height), bool(has_alpha), bool(has_frames))
    return name, ScannedImage(FileIdentity(*identity), digest, header)
