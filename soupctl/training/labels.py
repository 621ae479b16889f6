"""Captions and classes: what `metadata.jsonl` says, and how a base numbers classes."""

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
class Row:
    """What is said of one image."""

    captions: tuple[str, ...] = ()
    label: str | None = None


def read_rows(path: Path, column: str) -> tuple[dict[str, Row], list[tuple[str, str]]]:
    """The rows by the image that they describe, and for each bad line what is bad and where.

    A line is an object with `file_name`, a text or several in `column`, and perhaps a `label`.
    Raises InputError if the file cannot be read.
    """
    rows: dict[str, Row] = {}
    bad: list[tuple[str, str]] = []
    text = read_file(path).decode("utf-8-sig", "replace")
    # a caption may hold what else Python takes for the end of a line
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


def _parse(entry: Any, column: str) -> tuple[str, Row]:
    """An image's name and row; TypeError, ValueError or KeyError if the entry is malformed."""
    name = entry["file_name"]
    if not is_inside(name):
        raise ValueError("is not inside the folder")
    texts = entry.get(column, [])
    texts = [texts] if isinstance(texts, str) else texts
    label = entry.get("label")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a caption is a text")
    if not (label is None or isinstance(label, str) or type(label) is int):
        raise TypeError("a label is a text or a number")
    captions = tuple(text.strip() for text in texts if text.strip())
    return name, Row(captions, None if label is None else str(label))


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a data shard, as the base numbers them."""

    numbers: dict[str, int]
    """By name."""
    null: int | None
    """The number that stands for no class; None if the base has none."""


def number_classes(
    labels: Sequence[str], names: Sequence[str], embeddings: int, *, with_null: bool, path: Path
) -> Classes:
    """The numbers of the classes in `labels` for a base with so many class embeddings.

    Labels that are whole numbers are taken at their word. Others are numbered in the order of
    `names`, or sorted if there are as many as the base has classes. With `with_null`, the last
    embedding stands for no class. Raises MismatchError, which names the data shard `path`, for
    classes that the base has not.
    """
    known = embeddings - with_null
    found = sorted(set(labels))
    null = known if with_null else None
    if names:
        numbers = {name: number for number, name in enumerate(names)}
        advice = "classes in --config names all of the base's in order"
    elif all(label.isdecimal() for label in found):
        numbers = {label: int(label) for label in found}
        advice = _advice(with_null)
    else:
        numbers = {name: number for number, name in enumerate(found)}
        advice = (
            f"name all {known} in order, with classes = [...] in --config; {_advice(with_null)}"
        )
        if len(found) != known:
            what = f"has {len(found)} classes, and the base {known}"
            raise MismatchError(what, path=path, advice=advice)
    strangers = [label for label in found if not numbers.get(label, known) < known]
    if strangers:
        what = f"has the class {strangers[0]!r}, and the base {known} classes"
        raise MismatchError(what, path=path, advice=advice)
    return Classes({label: numbers[label] for label in found}, null)


def _advice(with_null: bool) -> str:
    if with_null:
        return "the last class embedding is for samples without a class; --cond-drop 0 makes it one"
    return "classes are numbered from 0"
