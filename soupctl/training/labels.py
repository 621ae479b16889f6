"""Captions and labels from `metadata.jsonl`, and the numbers that a base gives to classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MismatchError
from ..format.index import is_inside
from ..storage.files import read_file

METADATA = "metadata.jsonl"


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
    if not is_inside(name):
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


@dataclass(frozen=True, slots=True)
class ClassNumbers:
    """The classes of a dataset, as the base numbers them."""

    numbers: dict[str, int]
    """Class number by name."""
    null: int | None
    """The number of the null class, for samples without one; None if the base has none."""


def number_classes(
    labels: Sequence[str], names: Sequence[str], embeddings: int, *, with_null: bool, path: Path
) -> ClassNumbers:
    """The numbers of the classes in `labels` for a base with that many class embeddings.

    Labels that are integers are used as they are. Others are numbered in the order of `names`, or
    in sorted order if there are as many as the base has classes. With `with_null`, the last
    embedding is the null class. Raises MismatchError, naming the dataset's folder `path`, for
    classes that the base does not have.
    """
    known = embeddings - with_null
    found = sorted(set(labels))
    null = known if with_null else None
    if names:
        numbers = {name: number for number, name in enumerate(names)}
        advice = "classes in --config must name all classes of the base, in order"
    elif all(label.isdecimal() for label in found):
        numbers = {label: int(label) for label in found}
        advice = _advice(with_null)
    else:
        numbers = {name: number for number, name in enumerate(found)}
        advice = f"name all {known} in order with classes = [...] in --config; {_advice(with_null)}"
        if len(found) != known:
            what = f"expected {known} classes, as in the base, and found {len(found)}"
            raise MismatchError(what, path=path, advice=advice)
    unknown = [label for label in found if not numbers.get(label, known) < known]
    if unknown:
        what = f"has the class {unknown[0]!r}, which is not one of the base's {known} classes"
        raise MismatchError(what, path=path, advice=advice)
    return ClassNumbers({label: numbers[label] for label in found}, null)


def _advice(with_null: bool) -> str:
    if with_null:
        return "the last class embedding is the null class, unless --cond-drop is 0"
    return "classes are numbered from 0"
