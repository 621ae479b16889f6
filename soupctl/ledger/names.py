"""How ingredients are called in a ledger, and how a ledger hints at where they are.

Rule 1: no absolute path and no more of a path than tells ingredients apart, so no user name leaks.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Sequence

MOST_LEVELS_UP = 2
SHORT_DIGEST = 12
"""Hexadecimal digits of a shortened digest, as shown on a terminal and accepted by commands."""


def unique_names(paths: Sequence[str], taken: Collection[str] = ()) -> tuple[str, ...]:
    """The shortest trailing path of each absolute path that no other of them ends in.

    Names that are `taken` are given to none, where a path is long enough to tell it apart. A path
    that is in `paths` more than once keeps one name for all its places.
    """
    parts = {path: [part for part in printable(path).split("/") if part] for path in paths}
    names = {path: _tail(pieces, 1) for path, pieces in parts.items()}
    length = 1
    while clashes := _clashes(names, taken):
        length += 1
        for path in clashes:
            names[path] = _tail(parts[path], length)
        if length > max(len(parts[path]) for path in clashes):
            break
    return tuple(names[path] for path in paths)


def _tail(parts: Sequence[str], length: int) -> str:
    return "/".join(parts[-length:])


def _clashes(names: dict[str, str], taken: Collection[str]) -> list[str]:
    counts = Counter([*names.values(), *taken])
    return [path for path, name in names.items() if counts[name] > 1]


def hint(ingredient: str, soup_folder: str) -> str:
    """Where to look for an ingredient, relative to the folder that holds the soup.

    At most two levels up, and not by way of the root folder: that would tell the absolute path.
    Beyond that, its file name alone.
    """
    relative = posixpath.relpath(ingredient, soup_folder)
    by_the_root = posixpath.commonpath([ingredient, soup_folder]) == "/"
    if by_the_root or relative.split("/").count("..") > MOST_LEVELS_UP:
        relative = posixpath.basename(ingredient)
    return printable(relative)


def printable(name: str) -> str:
    r"""The name as UTF-8 can carry it: bytes of a file name that are none become `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
