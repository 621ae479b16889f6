"""The cache of the Hugging Face Hub: folders of repositories, whose snapshots link to blobs.

Rule 1: a repository's folder stands for its snapshot: that of `main`, or the only one.
Rule 2: the name of a blob of a large file is its SHA-256; that of a small file is not.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..format.index import is_inside
from ..pattern import pattern
from ..storage.files import read_file

SNAPSHOTS = "snapshots"
LONGEST_REF = 1000
SHA256 = pattern(r"[0-9a-f]{64}")


def snapshot_of(path: Path) -> Path:
    """The snapshot that a repository's folder leads to; any other path as it is.

    Raises InputError if it has several snapshots and no `refs/main`, or none.
    """
    if not is_repository(path):
        return path
    present = sorted(each for each in (path / SNAPSHOTS).iterdir() if each.is_dir())
    main = _main(path)
    if main is not None and path / SNAPSHOTS / main in present:
        return path / SNAPSHOTS / main
    if len(present) == 1:
        return present[0]
    if not present:
        raise InputError("is a repository of the hub's cache without a snapshot", path=path)
    raise InputError(
        f"is a repository of the hub's cache with {len(present)} snapshots, and no refs/main",
        path=path,
        advice=f"name one, such as {present[0]}",
    )


def is_repository(path: Path) -> bool:
    """Whether a folder is that of a repository in the cache."""
    folders = ("blobs", "refs")
    return (path / SNAPSHOTS).is_dir() and any((path / name).is_dir() for name in folders)


def _main(path: Path) -> str | None:
    """The snapshot that `main` names."""
    ref = path / "refs" / "main"
    if not ref.is_file():
        return None
    name = read_file(ref, limit=LONGEST_REF).decode("utf-8", "replace").strip()
    return name if is_inside(name) else None


def blob_sha256(path: Path) -> str | None:
    """The SHA-256 that the name of a large file in the cache says; None for any other file."""
    is_blob = path.parent.name == "blobs" and SHA256.fullmatch(path.name) is not None
    return path.name if is_blob else None
