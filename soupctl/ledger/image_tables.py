"""Tables of images: `metadata.jsonl`, `.csv` and `.parquet`, whose rows have captions and labels.

Rule 1: a table is read a line at a time, whatever its size.
Rule 2: names match with either path separator, and in any Unicode normal form.
"""

from __future__ import annotations

import io
import json
import math
import posixpath
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from ..format.index import is_inside
from ..storage.regular import open_regular
from .arrow_files import PARQUET, read_rows
from .image_metadata import LFS_POINTER, REPLACED, ImageMetadata

METADATA = "metadata.jsonl"
CSV = "metadata.csv"
TABLES = (METADATA, CSV, f"metadata{PARQUET}")
"""Names of tables that describe the images of a folder; the first that exists is used."""
LONGEST_LINE = 1 << 24
"""Most characters of a line of a table."""
MORE_FIELDS = "\0"
"""The name, which no column has, of what a CSV line has beyond the columns."""


class _Malformed(ValueError):
    """What is wrong with a line, in words; empty if nothing more is known."""


def tables_of(files: Mapping[str, Path]) -> list[str]:
    """The names of the tables that describe the images: the folder's, or else those of subfolders.

    A table in a subfolder names images relative to that subfolder.
    """
    found: dict[str, str] = {}
    for table in TABLES:
        for name in sorted(files):
            path = PurePosixPath(name)
            if path.name == table:
                found.setdefault(path.parent.as_posix(), name)
    return [found["."]] if "." in found else [found[place] for place in sorted(found)]


def read_tables(
    files: Mapping[str, Path], column: str
) -> tuple[dict[str, ImageMetadata] | None, list[tuple[str, str]]]:
    """The rows of all tables by image name, and the problems; None for rows without a table.

    Raises InputError if a table cannot be read.
    """
    if not (tables := tables_of(files)):
        return None, []
    rows: dict[str, ImageMetadata] = {}
    bad: list[tuple[str, str]] = []
    for table in tables:
        found, problems = read_metadata(files[table], column)
        place = PurePosixPath(table).parent
        rows |= {(place / name).as_posix(): row for name, row in found.items()}
        bad += problems
    return _as_spelled(rows, files), bad


def _as_spelled(
    rows: dict[str, ImageMetadata], files: Mapping[str, Path]
) -> dict[str, ImageMetadata]:
    """The rows by the names that the files have, in whichever normal form of Unicode."""
    if all(name in files or name.isascii() for name in rows):
        return rows
    # imported late, because most commands read no images
    from unicodedata import normalize  # noqa: PLC0415

    others = [name for name in files if not name.isascii() and name not in rows]
    spelled = {normalize("NFC", name): name for name in others}
    return {
        name if name in files else spelled.get(normalize("NFC", name), name): row
        for name, row in rows.items()
    }


def read_metadata(
    path: Path, column: str
) -> tuple[dict[str, ImageMetadata], list[tuple[str, str]]]:
    """The rows by image name, and for each bad line the problem and its place.

    A line is an object with `file_name`, a string or a list of strings in `column`, and an optional
    `label`; or the same as columns of a CSV or Parquet file. The file is read a line at a time.
    Raises InputError if the file cannot be read, LimitError for Parquet without pyarrow.
    """
    rows: dict[str, ImageMetadata] = {}
    bad: list[tuple[str, str]] = []
    for place, line in _entries(path, column):
        try:
            name, row = _parse(_entry(line), column)
        except (ValueError, TypeError, RecursionError) as error:
            reason = f" ({error})" if isinstance(error, _Malformed) else ""
            bad.append((f"described by a malformed line of {path.name}{reason}", place))
            continue
        if name in rows:
            bad.append((f"described twice in {path.name}", f"{name} ({place})"))
        rows[name] = row
    return rows, bad


def _entries(path: Path, column: str) -> Iterator[tuple[str, str | dict[str, Any]]]:
    """The lines or rows of a table, with their places."""
    if path.suffix == PARQUET:
        for number, row in enumerate(read_rows(path, ("file_name", column, "label", "split")), 1):
            yield f"row {number}", row
        return
    is_csv = path.suffix == ".csv"
    with open_regular(path) as (fd, _), open(fd, "rb", closefd=False) as file:
        # not universal newlines: a caption may contain other characters that end lines
        newline = "" if is_csv else "\n"
        text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline)
        yield from _csv_lines(text) if is_csv else _lines(text)


def _lines(text: TextIO) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, with their places."""
    number = 0
    while line := text.readline(LONGEST_LINE):
        number += 1
        if line.strip():
            yield f"line {number}", line


def _csv_lines(text: TextIO) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV file with their places; empty fields are left out."""
    # imported late, because most commands read no table
    import csv  # noqa: PLC0415

    # a limit of the module, which is 131,072 characters unless it is raised
    csv.field_size_limit(LONGEST_LINE)
    first = text.readline(LONGEST_LINE)
    reader = csv.DictReader(
        chain([first], text),
        restkey=MORE_FIELDS,
        delimiter=_delimiter(first),
        skipinitialspace=True,
    )
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        for row in reader:
            # pandas writes whole numbers as floats if any is missing
            label = (row.pop("label", None) or "").removesuffix(".0")
            yield f"line {reader.line_num}", {**row, **({"label": label} if label else {})}
    except csv.Error:
        yield f"line {reader.line_num}", {}


def _delimiter(first: str) -> str:
    """What separates the columns that a first line names: a comma, or a semicolon or a tab.

    Spreadsheets write semicolons where a comma is the decimal sign.
    """
    for each in (";", "\t"):
        if "file_name" in (name.strip(' "\n\r') for name in first.split(each)):
            return each
    return ","


def _entry(line: str | dict[str, Any]) -> Mapping[str, Any]:
    """The object that a line is; _Malformed or another ValueError if it is none."""
    if isinstance(line, dict):
        return line
    try:
        entry = json.loads(line)
    except ValueError:
        if REPLACED in line:
            raise _Malformed("not valid UTF-8") from None
        is_pointer = line.encode().startswith(LFS_POINTER)
        raise _Malformed("a pointer of Git LFS" if is_pointer else "not JSON") from None
    if not isinstance(entry, dict):
        raise _Malformed("not an object")
    return entry


def _parse(entry: Mapping[str, Any], column: str) -> tuple[str, ImageMetadata]:
    """An image's name and row; _Malformed or another ValueError if the entry is malformed."""
    name = entry.get("file_name")
    if not isinstance(name, str):
        raise _Malformed(_nameless(entry))
    if any(entry.get(MORE_FIELDS) or ()):
        raise _Malformed("more fields than the first line: a text with commas needs quotes")
    name = _valid(name)
    name = posixpath.normpath(name if "/" in name else name.replace("\\", "/"))
    if not is_inside(name):
        raise _Malformed("its file_name leads out of the folder")
    given = entry.get(column)
    told = [each for each in (given if isinstance(given, list) else [given]) if not _is_null(each)]
    texts = [text for text in told if isinstance(text, str)]
    if len(texts) < len(told):
        raise _Malformed(f"its {column} is not text")
    label = entry.get("label")
    if isinstance(label, float) and label.is_integer():
        # pandas writes whole numbers as floats if any is missing
        label = int(label)
    if isinstance(label, str):
        label = _valid(label).strip() or None
    if _is_null(label):
        label = None
    if not (label is None or isinstance(label, str) or type(label) is int):
        raise _Malformed("its label is neither text nor a whole number")
    texts = [_valid(text) for text in texts]
    captions = tuple(text.strip() for text in texts if text.strip())
    is_empty = bool(texts) and not captions
    split = entry.get("split")
    return name, ImageMetadata(
        captions,
        None if label is None else str(label),
        is_empty,
        split=_valid(split) if isinstance(split, str) else "",
    )


def _valid(text: str) -> str:
    """A text in which what is not valid UTF-8, such as half of a pair in JSON, is replaced."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _nameless(entry: Mapping[str, Any]) -> str:
    """What an entry without a file name has instead, in words."""
    fields = ", ".join(str(each) for each in list(entry)[:4] if each != MORE_FIELDS)
    if REPLACED in fields:
        return "not valid UTF-8"
    return f"no file_name, but {fields}" if fields and "file_name" not in entry else "no file_name"


def _is_null(value: object) -> bool:
    """Whether a value is missing: null, or as pandas writes that, NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
