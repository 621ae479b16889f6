"""Captions and labels of images, from a table of them or from sidecar files and folders.

Rule 1: no image is opened, so that a data shard can be described without the libraries that train.
Rule 2: names match with either path separator, and in any Unicode normal form.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..format.index import is_inside
from ..storage.files import read_file

METADATA = "metadata.jsonl"
CSV = "metadata.csv"
TABLES = (METADATA, CSV)
"""Names of tables that describe the images of a folder; the first that exists is used."""
SIDECARS = (".txt", ".caption")
"""Lowercase endings of caption files beside an image; the first that exists is used."""
ELSEWHERE = "captions"
"""A folder that may hold these files instead."""


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """Captions and label of one image."""

    captions: tuple[str, ...] = ()
    label: str | None = None
    is_empty: bool = False
    """Whether it has a caption that is empty."""


def table_of(files: Mapping[str, Path]) -> str | None:
    """The name of the table that describes the images; None if there is none."""
    return next((name for name in TABLES if name in files), None)


def read_metadata(
    path: Path, column: str
) -> tuple[dict[str, ImageMetadata], list[tuple[str, str]]]:
    """The rows by image name, and for each bad line the problem and its place.

    A line is an object with `file_name`, a string or a list of strings in `column`, and an optional
    `label`; or the same as columns of a CSV file.
    Raises InputError if the file cannot be read.
    """
    rows: dict[str, ImageMetadata] = {}
    bad: list[tuple[str, str]] = []
    text = read_file(path).decode("utf-8-sig", "replace")
    for place, line in _csv_lines(text) if path.suffix == ".csv" else _lines(text):
        try:
            entry = line if isinstance(line, dict) else json.loads(line)
            name, row = _parse(entry, column)
        except (ValueError, TypeError, KeyError, RecursionError):
            bad.append((f"described by a malformed line of {path.name}", place))
            continue
        if name in rows:
            bad.append((f"described twice in {path.name}", f"{name} ({place})"))
        rows[name] = row
    return rows, bad


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, with their places."""
    # not splitlines: a caption may contain other characters that Python treats as line ends
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", line


def _csv_lines(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV file with their places; empty fields are left out."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            # pandas writes whole numbers as floats if any is missing
            label = (row.pop("label", None) or "").removesuffix(".0")
            yield f"line {reader.line_num}", {**row, **({"label": label} if label else {})}
    except csv.Error:
        yield f"line {reader.line_num}", {}


def _parse(entry: Any, column: str) -> tuple[str, ImageMetadata]:
    """An image's name and row; TypeError, ValueError or KeyError if the entry is malformed."""
    name = entry["file_name"]
    if not isinstance(name, str):
        raise TypeError("file_name must be a string")
    name = str(PurePosixPath(name if "/" in name else name.replace("\\", "/")))
    if not is_inside(name):
        raise ValueError("file_name leads out of the folder")
    texts = entry.get(column)
    # pandas writes a missing caption as null
    texts = [] if texts is None else [texts] if isinstance(texts, str) else texts
    label = entry.get("label")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a caption must be a string")
    if isinstance(label, float) and label.is_integer():
        # and writes whole numbers as floats if any is missing
        label = int(label)
    if not (label is None or isinstance(label, str) or type(label) is int):
        raise TypeError("a label must be a string or an integer")
    captions = tuple(text.strip() for text in texts if text.strip())
    is_empty = bool(texts) and not captions
    return name, ImageMetadata(captions, None if label is None else str(label), is_empty)


def metadata_of(
    name: str, rows: Mapping[str, ImageMetadata] | None, files: Mapping[str, Path]
) -> ImageMetadata:
    """Captions and label of the image `name`: its row's, or those of its sidecar file and folder.

    `rows` are those of the table, None without one; `files` are the folder's, by name.
    """
    top, inside, _ = name.partition("/")
    label = top if inside else None
    if rows is not None:
        row = rows.get(name, ImageMetadata())
        return replace(row, label=row.label or label)
    sidecar = sidecar_of(name, files)
    captions: tuple[str, ...] = ()
    if sidecar is not None:
        text = files[sidecar].read_text("utf-8-sig", "replace")
        captions = tuple(line.strip() for line in text.splitlines() if line.strip())
    return ImageMetadata(captions, label, sidecar is not None and not captions)


def sidecar_of(name: str, files: Mapping[str, Path]) -> str | None:
    """The name of the file with the captions of the image `name`; None if there is none."""
    # a broken link has no captions
    return next((each for each in _sidecars(name) if each in files and files[each].exists()), None)


def _sidecars(name: str) -> Iterator[str]:
    """The possible names of an image's sidecar file, the likeliest first."""
    path = PurePosixPath(name)
    for folder in (path.parent, path.parent / ELSEWHERE, ELSEWHERE / path.parent):
        for stem in (path.stem, path.name):
            for ending in SIDECARS:
                for spelled in dict.fromkeys(
                    (stem, *(unicodedata.normalize(form, stem) for form in ("NFC", "NFD")))
                ):
                    yield (folder / f"{spelled}{ending}").as_posix()
                    yield (folder / f"{spelled}{ending.upper()}").as_posix()
