"""Images that are packed into files, with what describes them: Parquet, Arrow and webdataset.

Rule 1: a Parquet or Arrow file has one image a row, as bytes in a column of their own or with a
path, as `datasets` writes it; the other columns with text or whole numbers describe the image.
Rule 2: a webdataset is a tar file in which files of one name, up to the first dot, belong together:
an image, and `.txt`, `.json` or `.cls` files that describe it. Nothing is unpacked by a name that
leads out of the folder, and links and devices are left out.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError, shortened
from ..format.index import is_inside
from ..images.decode import LARGEST_FILE
from ..images.plug_ins import HEIF, JXL, format_of
from ..ledger.arrow_files import PARQUET, read_columns, read_rows
from ..ledger.data_files import WITH_PLUG_INS
from ..ledger.image_metadata import LFS_POINTER, REPLACED
from ..ledger.image_tables import TABLES
from ..storage.regular import reading

ARROW = ".arrow"
TARS = (".tar", ".tar.gz", ".tgz")
READ = (PARQUET, ARROW, *TARS)
"""Endings of the files that are read."""
DESCRIBING = (".txt", ".json", ".cls")
USED = WITH_PLUG_INS.union(DESCRIBING)
"""Endings of the files of a webdataset that are read."""
LONG_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Types of headers that tarfile reads into memory."""
LONGEST_HEADER = 1 << 20
CACHES = "cache-"
"""How the files begin in which `datasets` caches what it computed from others."""
TEXT_FIELDS = ("text", "caption", "prompt")
"""Fields of a webdataset's `.json` whose text is the caption if there is no `.txt`."""
SIGNATURES: Mapping[bytes, str] = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
"""First bytes of image files, and the ending that is given to them."""


@dataclass(frozen=True, slots=True)
class PackedImage:
    """One image of a packed file."""

    name: str
    """Its path in the unpacked folder, with `/`."""
    data: bytes | None
    """The bytes of an image file; None for a row without one."""
    fields: Mapping[str, Any]
    """What describes it: text, lists of text, and whole numbers, by name."""


def is_packed(name: str) -> bool:
    """Whether a file, by its path in a folder, may pack images that can be read."""
    last = PurePosixPath(name).name
    return last.lower().endswith(READ) and last not in TABLES and not last.startswith(CACHES)


def packed_images(name: str, path: Path) -> Iterator[PackedImage]:
    """The images in a file, whose path in its folder is `name`.

    Raises InputError for a file that cannot be read or has no images, LimitError without pyarrow.
    """
    with reading(str(path)), path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise InputError("is a pointer of Git LFS", path=path, advice="git lfs pull")
    if name.lower().endswith(TARS):
        yield from _tar_images(path)
    else:
        yield from _row_images(PurePosixPath(name).stem, path)


def _row_images(stem: str, path: Path) -> Iterator[PackedImage]:
    column, others = _columns(path)
    for number, row in enumerate(read_rows(path, (column, *others))):
        value = row.pop(column)
        told = value if isinstance(value, dict) else {"bytes": value}
        data, suffix = told.get("bytes"), PurePosixPath(_text(told.get("path"))).suffix.lower()
        ending = suffix if suffix in WITH_PLUG_INS else _ending(data or b"")
        fields = {key: each for key, each in row.items() if _describes(each)}
        yield PackedImage(f"{stem}-{number:06}{ending}", data, fields)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _columns(path: Path) -> tuple[str, list[str]]:
    """The column with the images, `image` or else the first one, and those that describe them."""
    # before pyarrow itself, because it tells what to do if there is none
    columns = read_columns(path)
    import pyarrow as pa

    def has_bytes(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def has_images(kind: Any) -> bool:
        if not pa.types.is_struct(kind):
            return has_bytes(kind)
        place = kind.get_field_index("bytes")
        return place >= 0 and has_bytes(kind.field(place).type)

    def describes(kind: Any) -> bool:
        while pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
        return any(test(kind) for test in (*tests, pa.types.is_floating))

    names = [name for name, _ in columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"has two columns named {shortened(twice)!r}", path=path)
    found = [name for name, kind in columns if has_images(kind)]
    if not found:
        listed = ", ".join(map(shortened, names[:6]))
        what = f"has no column with the bytes of images (its columns: {listed})"
        raise InputError(what, path=path)
    if len(found) > 1 and "image" not in found:
        listed = ", ".join(map(shortened, found[:6]))
        advice = "rename the column of the images to train on to image"
        what = f"has several columns with the bytes of images: {listed}"
        raise InputError(what, path=path, advice=advice)
    image = "image" if "image" in found else found[0]
    return image, [name for name, kind in columns if name != image and describes(kind)]


def _describes(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return isinstance(value, str) or type(value) in {int, float}


def _ending(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:12] == b"ftypavif":
        return ".avif"
    if (kind := format_of(data)) is not None:
        return {HEIF: ".heic", JXL: ".jxl"}[kind]
    return next((name for start, name in SIGNATURES.items() if data.startswith(start)), ".png")


class _TarHeader(tarfile.TarInfo):
    """A member whose header is sound, where tarfile would end without an error or read on."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarHeader:
        """The member that a header is about; ReadError for a header that is damaged."""
        try:
            found = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            # a tar file ends with zeros, or with nothing
            if not buf.strip(b"\0"):
                raise
            raise tarfile.ReadError(str(error)) from None
        if found.size < 0 or (found.type in LONG_HEADERS and found.size > LONGEST_HEADER):
            raise tarfile.ReadError("a header claims a size that none has")
        return found


def _tar_images(path: Path) -> Iterator[PackedImage]:
    """The images of a tar file with what describes each, whose files are next to each other."""
    try:
        with tarfile.open(path, tarinfo=_TarHeader) as tar:
            group: dict[str, bytes] = {}
            last, known = "", set[str]()
            for member in _members(tar):
                split = _key_and_ending(member.name) if member.isreg() else None
                if split is None:
                    continue
                _require_no_table(path, member.name)
                key, ending = split
                # the other files of a name do not matter, wherever they are
                if ending not in USED and PurePosixPath(ending).suffix not in WITH_PLUG_INS:
                    continue
                if key != last:
                    yield from _grouped(path, last, group)
                    group, last = {}, key
                    _require_new(path, member.name, key, known)
                if ending not in USED:
                    group[ending] = b""
                    continue
                if member.size + sum(map(len, group.values())) > LARGEST_FILE:
                    name = shortened(member.name)
                    what = f"has a file, or files of one name, of more than {LARGEST_FILE} bytes"
                    raise InputError(f"{what}: {name}", path=path)
                file = tar.extractfile(member)
                group[ending] = b"" if file is None else file.read()
            yield from _grouped(path, last, group)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(":") or type(error).__name__
        raise InputError(f"cannot be read: {reason}", path=path) from error


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members in their order; ReadError for one that does not lie behind those before it."""
    end = 0
    while (member := tar.next()) is not None:
        if member.size < 0 or member.offset_data <= end:
            raise tarfile.ReadError("a header claims a size that none has")
        end = member.offset_data
        yield member
        # tarfile keeps them all
        tar.members = []  # type: ignore[attr-defined]


def _key_and_ending(name: str) -> tuple[str, str] | None:
    """The name up to the first dot, and the rest; None for a hidden or an unsafe name."""
    path = PurePosixPath(name)
    stem, dot, ending = path.name.partition(".")
    if not stem or not dot or not is_inside(path.as_posix()):
        return None
    return (path.parent / stem).as_posix(), f".{ending.lower()}"


def _grouped(path: Path, key: str, group: Mapping[str, bytes]) -> Iterator[PackedImage]:
    """The image among files of one name, with what describes it; nothing without an image."""
    fields: dict[str, Any] = {}
    if ".json" in group:
        try:
            told = json.loads(group[".json"])
        except (ValueError, RecursionError):
            raise InputError(f"has a malformed file: {key}.json", path=path) from None
        if isinstance(told, dict):
            fields = {name: each for name, each in told.items() if _describes(each)}
            captions = (fields[name] for name in TEXT_FIELDS if name in fields)
            fields["text"] = next(captions, None)
    if ".txt" in group:
        text = group[".txt"].decode("utf-8-sig", "replace").replace("\0", REPLACED)
        fields["text"] = [line for line in text.splitlines() if line.strip()]
    if ".cls" in group:
        fields["label"] = group[".cls"].decode("utf-8-sig", "replace").strip()
    images = [ending for ending in group if ending in WITH_PLUG_INS]
    if len(images) > 1:
        names = ", ".join(f"{key}{ending}" for ending in images)
        what = f"has several images of one name: {shortened(names)}"
        raise InputError(what, path=path, advice="unpack it, and leave only one of them")
    if not images and (others := [ending for ending in group if ending not in DESCRIBING]):
        what = f"has no image {key}.png, but {shortened(key + others[0])}"
        advice = "a name ends at its first dot in a webdataset; unpack it to use such images"
        raise InputError(what, path=path, advice=advice)
    for ending in images:
        yield PackedImage(f"{key}{ending}", group[ending], fields)


def _require_no_table(path: Path, name: str) -> None:
    """Raise InputError for a table of images in a tar file, which would not be read."""
    if PurePosixPath(name).name in TABLES:
        what = f"has a table, which is not read inside a tar file: {shortened(name)}"
        raise InputError(what, path=path, advice="unpack it")


def _require_new(path: Path, name: str, key: str, known: set[str]) -> None:
    """Note that files named `key` begin; InputError if some of them were elsewhere before."""
    if key in known:
        what = f"has files of one name in several places, which do not belong together: {name}"
        raise InputError(shortened(what), path=path, advice="pack it with tar --sort=name")
    known.add(key)
