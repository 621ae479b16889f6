"""The lock of a recipe: a file beside it that pins the content of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import InputError
from ...storage.atomic import publish_bytes
from ...storage.regular import reading
from .toml import is_digest, quoted, read_toml

Lock = Mapping[str, Mapping[str, str]]
"""Content digests by input and component; a file's has the name ''."""

SUFFIX = ".lock"


def lock_of(recipe: str | Path) -> Path:
    """The path of a recipe's lock: `NAME.toml.lock` beside it."""
    return Path(f"{recipe}{SUFFIX}")


def read_lock(recipe: str | Path) -> Lock | None:
    """The lock of a recipe; None if it has none, InputError if it is malformed."""
    path = lock_of(recipe)
    with reading(str(path)):
        if not path.exists():
            return None
    found = read_toml(path)
    if not all(
        isinstance(each, dict) and each and all(map(is_digest, each.values()))
        for each in found.values()
    ):
        raise InputError(
            "is not a lock file of a recipe",
            path=path,
            advice="delete it to make a new one",
        )
    return found


def write_lock(recipe: str | Path, lock: Lock) -> Path:
    """Write the lock of a recipe; returns its path. Raises OutputError if it exists already."""
    lines = ["# the contents that the inputs of the recipe are pinned to\n"]
    for name, digests in lock.items():
        lines.append(f"\n[{quoted(name)}]\n")
        lines += [f"{quoted(part)} = {quoted(digest)}\n" for part, digest in digests.items()]
    path = lock_of(recipe)
    publish_bytes(path, "".join(lines).encode(), replace=False)
    return path
