"""Checkpoints as torch saves them, made without torch, which takes seconds to load."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n("
    b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ"
    b"K\x00K\x01\x85K\x01\x85\x89}tR"
)
"""The pickle of a tensor of one element, of the storage `0`."""


def save_torch(path: Path, *entries: str) -> Path:
    """A checkpoint with the tensor `w` in each of these entries, or in none."""
    inside = b"X\x01\0\0\0w" + TENSOR + b"s"
    items = b"".join(b"X" + struct.pack("<I", len(e)) + e.encode() + b"}" + inside for e in entries)
    pickled = b"\x80\x02}" + (b"(" + items + b"u" if entries else inside) + b"."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", struct.pack("<f", 1.5))
    return path
