"""The zip archive of a checkpoint that torch has saved: where its members lie.

Rule 1: members are stored, not compressed, and do not overlap, so no archive is larger than its
file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from ...errors import InputError
from ...format.magic import ZIP
from ...frozen import frozen

LOCAL_HEADER = 30
"""Bytes of a member's header before its name."""
MOST_MEMBERS = 1_000_000


@frozen
class ArchiveMember:
    """The bytes of one member within the file."""

    start: int
    size: int


def is_zip(path: Path) -> bool:
    """Whether a regular file begins as a zip archive does; False for what cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(ZIP)) == ZIP
    except OSError:
        return False


def members_of(path: Path, label: str) -> Mapping[str, ArchiveMember]:
    """The members of an archive by name; InputError for one that torch does not write."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_MEMBERS:
                raise InputError(f"has {len(entries)} members, which is too many", path=label)
            found: dict[str, ArchiveMember] = {}
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                    what = f"its member {entry.filename!r} is compressed or encrypted"
                    raise InputError(what, path=label, advice="torch writes neither")
                if entry.filename in found:
                    raise InputError(f"has {entry.filename!r} twice", path=label)
                file.seek(entry.header_offset)
                head = file.read(LOCAL_HEADER)
                if len(head) < LOCAL_HEADER or not head.startswith(b"PK\x03\x04"):
                    raise InputError(f"its member {entry.filename!r} is damaged", path=label)
                more = sum(int.from_bytes(head[n : n + 2], "little") for n in (26, 28))
                start = entry.header_offset + LOCAL_HEADER + more
                found[entry.filename] = ArchiveMember(start, entry.file_size)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        what = f"is not a whole zip archive: {error}"
        raise InputError(what, path=label, advice="download or copy it again") from None
    _require_apart(found, path.stat().st_size, label)
    return found


def _require_apart(found: Mapping[str, ArchiveMember], size: int, label: str) -> None:
    end = 0
    for name, member in sorted(found.items(), key=lambda each: (each[1].start, each[1].size)):
        if member.start < end or member.start + member.size > size:
            what = f"its member {name!r} overlaps another, or the end of the file"
            raise InputError(what, path=label)
        end = member.start + member.size
