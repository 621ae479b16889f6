"""The names of ingredients in a ledger, and hints at where their files are.

Rule 1: no absolute path, and only as much of a path as distinguishes ingredients, so that no user
name leaks.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Sequence

MOST_LEVELS_UP = 2
SHORT_DIGEST = 12
"""Hexadecimal digits of a shortened digest, as shown on a terminal and accepted by commands."""


def unique_names(paths: Sequence[str], taken: Collection[str] = ()) -> tuple[str, ...]:
    """The shortest trailing part of each absolute path that is unique among them.

    Names in `taken` are avoided where a path is long enough. A path that occurs more than once has
    the same name each time.
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
    """The path of an ingredient relative to the folder of the soup.

    If that leads more than two levels up, or through the root folder, which would reveal the
    absolute path, the file name alone.
    """
    relative = posixpath.relpath(ingredient, soup_folder)
    by_the_root = posixpath.commonpath([ingredient, soup_folder]) == "/"
    if by_the_root or relative.split("/").count("..") > MOST_LEVELS_UP:
        relative = posixpath.basename(ingredient)
    return printable(relative)


def printable(name: str) -> str:
    r"""The name with bytes that are not UTF-8 replaced by escapes such as `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
