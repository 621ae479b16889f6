"""Refuses files that are still being downloaded, by what their downloaders leave beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, Issue

MARKS = (
    # aria2, which makes the file with its full size at once, and the hub
    *(".aria2", ".incomplete"),
    # Firefox and wget wrappers, Chromium, Safari, qBittorrent
    *(".part", ".crdownload", ".download", ".!qB"),
)


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
    places = (file, os.path.realpath(file)) if file.is_symlink() else (file,)
    marks = (Path(f"{place}{ending}") for place in places for ending in MARKS)
    return next((mark for mark in marks if mark.exists()), None)
