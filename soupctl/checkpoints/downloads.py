"""Refuses files that are still being downloaded, by what their downloaders leave beside them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ..errors import InputError, Issue

MARKS = (
    # aria2, which makes the file with its full size at once, and the hub
    *(".aria2", ".incomplete"),
    # Firefox and wget wrappers, Chromium, Safari, qBittorrent
    *(".part", ".crdownload", ".download", ".!qB"),
)

SETTLED = 2_000_000_000
"""Nanoseconds after which a folder's time of change tells a later change from it."""


def require_finished(files: Iterable[Path]) -> None:
    """Raise InputError if a downloader's mark lies beside a file, or beside what it links to."""
    issues = [
        Issue(
            f"is not downloaded completely: {mark} lies beside it",
            file,
            advice=f"let the download finish, or remove {mark.name} if it is left from another",
        )
        for file in files
        if (mark := _mark(file)) is not None
    ]
    if issues:
        raise InputError.collected(issues)


def _mark(file: Path) -> Path | None:
    places = (file, Path(os.path.realpath(file))) if file.is_symlink() else (file,)
    marks = (place.with_name(place.name + ending) for place in places for ending in MARKS)
    return next((mark for mark in marks if mark.name in _marks_in(mark.parent)), None)


def _marks_in(folder: Path) -> frozenset[str]:
    """The names of all marks in a folder, which is listed once as long as it does not change."""
    try:
        changed = folder.stat().st_mtime_ns
        # a folder that has just changed may change again within one tick of its clock
        is_settled = time.time_ns() - changed > SETTLED
        return _listed(folder, changed) if is_settled else _marks_listed(folder)
    except OSError:
        # a missing file is reported elsewhere
        return frozenset()


def _marks_listed(folder: Path) -> frozenset[str]:
    with os.scandir(folder) as entries:
        return frozenset(entry.name for entry in entries if entry.name.endswith(MARKS))


@lru_cache(maxsize=256)
def _listed(folder: Path, changed: int) -> frozenset[str]:
    del changed  # used only to detect changes of the folder
    return _marks_listed(folder)
