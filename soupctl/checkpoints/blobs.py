"""Whether files of the hub's cache have the content that their names say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, Issue
from .hashing import SHA256, file_sha256
from .hub import blob_sha256


def require_true_blobs(files: Iterable[Path]) -> None:
    """Raise InputError for a blob of the hub's cache whose name is not its SHA-256.

    Files that lie elsewhere, and blobs with names of another kind, are not read.
    """
    digests: dict[Path, str] = {}
    """SHA-256 by blob, to which several files may link."""
    issues = []
    for file in files:
        blob = Path(os.path.realpath(file))
        expected = blob_sha256(blob)
        if expected is not None and blob not in digests:
            digests[blob] = file_sha256(blob).digest
        if expected is not None and digests[blob] != SHA256 + expected:
            what = "is damaged: its SHA-256 differs from its name in the hub's cache"
            advice = f"remove {blob} and download it again"
            issues.append(Issue(what, file, advice=advice))
    if issues:
        raise InputError.collected(issues)
