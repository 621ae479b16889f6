"""Captions and labels of images, from `metadata.jsonl` or from sidecar files and folders.

Rule 1: no image is opened, so that a data shard can be described without the libraries that train.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..format.index import is_inside
from ..storage.files import read_file

METADATA = "metadata.jsonl"
SIDECAR = ".txt"


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """Captions and label of one image."""

    captions: tuple[str, ...] = ()
    label: str | None = None


def read_metadata(
    path: Path, column: str
) -> tuple[dict[str, ImageMetadata], list[tuple[str, str]]]:
    """The rows by image name, and for each bad line the problem and its place.

    A line is an object with `file_name`, a string or a list of strings in `column`, and an optional
    `label`.
    Raises InputError if the file cannot be read.
    """
    rows: dict[str, ImageMetadata] = {}
    bad: list[tuple[str, str]] = []
    text = read_file(path).decode("utf-8-sig", "replace")
    # not splitlines: a caption may contain other characters that end a line for Python
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            name, row = _parse(json.loads(line), column)
        except (ValueError, TypeError, KeyError, RecursionError):
            bad.append((f"described by a malformed line of {METADATA}", place))
            continue
        if name in rows:
            bad.append((f"described twice in {METADATA}", f"{name} ({place})"))
        rows[name] = row
    return rows, bad


def _parse(entry: Any, column: str) -> tuple[str, ImageMetadata]:
    """An image's name and row; TypeError, ValueError or KeyError if the entry is malformed."""
    name = entry["file_name"]
    if not (isinstance(name, str) and is_inside(name)):
        raise ValueError("file_name leads out of the folder")
    texts = entry.get(column, [])
    texts = [texts] if isinstance(texts, str) else texts
    label = entry.get("label")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a caption must be a string")
    if not (label is None or isinstance(label, str) or type(label) is int):
        raise TypeError("a label must be a string or an integer")
    captions = tuple(text.strip() for text in texts if text.strip())
    return name, ImageMetadata(captions, None if label is None else str(label))


def metadata_of(
    name: str, rows: Mapping[str, ImageMetadata] | None, files: Mapping[str, Path]
) -> ImageMetadata:
    """Captions and label of the image `name`: its row's, or those of its sidecar file and folder.

    `rows` are those of metadata.jsonl, None without one; `files` are the folder's, by name.
    """
    top, inside, _ = name.partition("/")
    label = top if inside else None
    if rows is not None:
        row = rows.get(name, ImageMetadata())
        return replace(row, label=row.label or label)
    sidecar = files.get(str(Path(name).with_suffix(SIDECAR)))
    captions: tuple[str, ...] = ()
    if sidecar is not None:
        text = sidecar.read_text("utf-8-sig", "replace")
        captions = tuple(line.strip() for line in text.splitlines() if line.strip())
    return ImageMetadata(captions, label)
