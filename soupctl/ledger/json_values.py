"""The values of a ledger's JSON: texts, digests, globs and dtypes, each checked as it is read.

Rule 1: a ledger is untrusted input: any other value raises TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..format.header import DTYPE_NAMES
from ..pattern import pattern
from .ledger import Runs
from .sealed import list_text

MOST_GLOBS = 256
"""Most globs of a selection, since each is matched with the name of every tensor."""
LONGEST_GLOB = 1000
"""Characters of the longest glob."""
LONGEST_NAME = 4 * 4096
"""Characters of the longest name or hint: the longest path with each byte escaped."""

DIGEST = pattern("blake3:[0-9a-f]{64}")


def encode_runs(dtypes: Runs) -> list[list[str | int]]:
    """Runs as a JSON value."""
    return [[dtype.value, count] for dtype, count in dtypes]


def runs_text(dtypes: Runs) -> str:
    """Runs as canonical JSON."""
    return list_text([f'["{dtype.value}",{count}]' for dtype, count in dtypes])


def read_text(value: object) -> str:
    """`value` as a text; TypeError for any other value."""
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:20]!r} is not a text")
    return value


def read_name(value: object) -> str:
    """`value` as a name or a hint; TypeError or ValueError for any other value."""
    name = read_text(value)
    if len(name) > LONGEST_NAME:
        raise ValueError("a name is longer than any path")
    return name


def read_globs(values: object) -> tuple[str, ...]:
    """`values` as the globs of a selection; TypeError or ValueError for any other value."""
    globs = read_texts(values)
    if len(globs) > MOST_GLOBS or any(len(glob) > LONGEST_GLOB for glob in globs):
        raise ValueError("its selection has too many globs, or too long ones")
    return globs


def read_pairs(values: object) -> tuple[tuple[str, str], ...]:
    """`values` as pairs of a glob and a text; TypeError or ValueError for any other value."""
    if not isinstance(values, list) or any(len(read_texts(pair)) != 2 for pair in values):
        raise TypeError("a list of pairs is missing")
    read_globs([glob for glob, _ in values])
    return tuple((glob, text) for glob, text in values)


def read_texts(values: object) -> tuple[str, ...]:
    """`values` as a list of texts; TypeError for any other value."""
    if not isinstance(values, list):
        raise TypeError("a list is missing")
    return tuple(map(read_text, values))


def read_flag(value: object) -> bool:
    """`value` as true or false; TypeError for any other value."""
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:20]!r} is not true or false")
    return value


def parse_digest(value: object) -> str:
    """`value` as a content digest; TypeError or ValueError for any other value."""
    text = read_text(value)
    if not DIGEST.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not a digest")
    return text


def parse_runs(value: Sequence[Any]) -> Runs:
    """The inverse of `encode_runs`; KeyError, TypeError or ValueError for any other value."""
    found = []
    for dtype, count in value:
        if type(count) is not int or count < 1:
            raise ValueError("a run of dtypes is empty")
        found.append((DTYPE_NAMES[dtype], count))
    return tuple(found)
