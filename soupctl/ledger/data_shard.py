"""A data shard: the images that an ingredient is trained on, their digest, and the record of them.

Rule 1: the digest covers path, bytes, captions and label of every image, and nothing else.
Rule 2: no image is decoded, so a data shard is digested without the training libraries, and without
checking that its images can be used.
Rule 3: the record of a data shard is untrusted; it is used only if its digest is in a ledger.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from blake3 import blake3

from ..checkpoints.digest import PREFIX, text_digest
from ..checkpoints.hashing import FileDigest, Progress, digest_file, ignore_progress
from ..checkpoints.layout import PICKLES, SUFFIXES
from ..checkpoints.listing import PIPELINE
from ..checkpoints.read_progress import current_progress
from ..errors import InputError, Issue
from ..frozen import frozen
from ..storage.files import read_file
from ..storage.regular import reading
from .data_files import (
    IMAGES,
    PLUG_INS,
    WITH_PLUG_INS,
    files_of_data,
    images_among,
    is_image,
    readable_endings,
)
from .data_splits import files_meant
from .image_metadata import ImageMetadata, caption_files, metadata_of
from .image_tables import read_tables, tables_of
from .json_values import parse_digest
from .sealed import canonical

RECORD = "data.jsonl"
"""The file in a run's folder that lists the images it was trained on."""
COLUMN = "text"
"""The default field of metadata.jsonl that holds captions."""


class DescribedImage(Protocol):
    """One image of a data shard, with the fields that its digest covers."""

    @property
    def name(self) -> str:
        """Path relative to the data shard's folder, with `/`."""

    @property
    def digest(self) -> str:
        """BLAKE3 of the file's bytes."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Its captions, of which one is chosen at random each time."""

    @property
    def label(self) -> str | None:
        """Name of its class."""


@frozen
class ImageRecord:
    """One image of a data shard: path within it, digest of its bytes, captions and label."""

    name: str
    digest: str
    captions: tuple[str, ...] = ()
    label: str | None = None


def data_digest(images: Iterable[DescribedImage]) -> str:
    """The digest of a data shard: BLAKE3 over `[[name,digest,captions,label],...]` as JSON.

    The images are given in any order.
    """
    rows = [
        [each.name, each.digest, list(each.captions), each.label]
        for each in sorted(images, key=lambda image: image.name)
    ]
    return text_digest(canonical(rows))


def file_digest(path: Path, progress: Progress = ignore_progress) -> str:
    """BLAKE3 of a file's bytes; InputError if it is unreadable, OutputError if it changes."""
    hasher = blake3()
    digest_file(path, hasher.update, progress)
    return PREFIX + hasher.hexdigest()


def is_data_folder(path: Path) -> bool:
    """Whether a folder holds images and, here or below, no weights."""
    with reading(str(path)):
        if not path.is_dir() or (path / PIPELINE).exists():
            return False
    files = files_of_data(path).values()
    weights = (*SUFFIXES, *PICKLES)
    return any(map(is_image, files)) and not any(each.name.endswith(weights) for each in files)


@frozen
class DataFolder:
    """The images of a folder, digested; with captions and labels they are a data shard."""

    folder: Path
    files: Mapping[str, Path]
    """Every file, by its path in the folder, or in its split for training."""
    digests: Mapping[str, str]
    """Each image's digest by its path in the folder, also where reading it needs a plug-in."""

    def images(
        self,
        column: str = COLUMN,
        *,
        whole: bool = False,
        endings: Collection[str] | None = None,
    ) -> tuple[ImageRecord, ...]:
        """The images by name, with captions from `column`; those not in metadata.jsonl left out.

        With `whole`, a caption file is one caption, not one a line. They have one of the `endings`,
        by default of those that can be read; InputError if there is none then.
        """
        rows, known = self._rows(column)[0], endings or readable_endings()
        texts, found = caption_files(self.files), []
        for name, digest in sorted(self.digests.items()):
            if _ending(name) in known and (rows is None or name in rows):
                described = metadata_of(name, rows, texts, whole=whole)
                found.append(ImageRecord(name, digest, described.captions, described.label))
        if not found and endings is None:
            raise _no_images(self.folder)
        return tuple(found)

    def readings(self) -> Iterator[frozenset[str]]:
        """The endings of images that training read, for each choice of plug-ins that matters."""
        used = sorted({PLUG_INS[_ending(each)] for each in self.digests if needs_plug_in(each)})
        for count in range(len(used) + 1):
            for chosen in combinations(used, count):
                yield IMAGES | {each for each, plug_in in PLUG_INS.items() if plug_in in chosen}

    def problems(self, column: str = COLUMN) -> list[str]:
        """Entries of the table that do not fit the images."""
        rows, bad = self._rows(column)
        if rows is None:
            return []
        table = ", ".join(tables_of(self.files))
        bad = [*bad, *((f"in {table} but missing", each) for each in rows.keys() - self.digests)]
        bad += [
            (f"not in {table}", name)
            for name in images_among(self.files, listed=rows).keys() - rows
        ]
        return [f"an image is {what}: {name}" for what, name in sorted(bad)]

    def _rows(self, column: str) -> tuple[dict[str, ImageMetadata] | None, list[tuple[str, str]]]:
        return read_tables(self.files, column)


def read_data_folder(folder: Path, progress: Progress = ignore_progress) -> DataFolder:
    """The images of a folder, or of its split for training, digested.

    Raises InputError for a folder without images, and for a name that is not valid UTF-8.
    """
    # imported late, because most commands read no images
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    found = files_of_data(folder)
    files = files_meant(found, list(images_among(found, WITH_PLUG_INS))).files
    # a table may list any of them, which is read later
    images = images_among(files, WITH_PLUG_INS, files if tables_of(files) else ())
    if not images:
        raise _no_images(folder)
    if bad := [name for name in images if not is_text(name)]:
        raise InputError("has a name that is not valid UTF-8", path=images[bad[0]])
    reading = current_progress()
    # a context variable is not set in other threads
    reading.expect(sum(path.stat().st_size for path in images.values()))

    def report(size: int) -> None:
        progress(size)
        reading(size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda path: file_digest(path, report), images.values())
        return DataFolder(folder, files, dict(zip(images, digests, strict=True)))


def images_digest(
    path: str | Path, *, column: str = COLUMN, progress: Progress = ignore_progress
) -> FileDigest | None:
    """The digest of an image, or of the data shard in a folder; None for any other path.

    It equals the one that training records if it can use all images, with captions from `column`
    of metadata.jsonl. Raises what `read_data_folder` does, and InputError for what does not fit in
    metadata.jsonl.
    """
    place = Path(path)
    if is_image(place) and place.is_file():
        return FileDigest(file_digest(place, progress), str(path))
    if not is_data_folder(place):
        return None
    found = read_data_folder(place, progress)
    if problems := found.problems(column):
        raise InputError.collected(Issue(problem, path) for problem in problems)
    return FileDigest(data_digest(found.images(column)), str(path))


def _no_images(folder: Path) -> InputError:
    return InputError("contains no images", path=folder)


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def needs_plug_in(name: str) -> bool:
    """Whether an image can be read only with a plug-in of Pillow."""
    return _ending(name) in PLUG_INS


def is_text(name: str) -> bool:
    """Whether a file's name is valid UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def encode_record(images: Sequence[DescribedImage]) -> bytes:
    """The record of a data shard: a JSON object a line, for each image."""
    return b"".join(canonical(_as_row(image)).encode() + b"\n" for image in images)


def _as_row(image: DescribedImage) -> dict[str, Any]:
    return {
        "captions": list(image.captions),
        "digest": image.digest,
        "file_name": image.name,
        "label": image.label,
    }


def read_data_record(path: Path) -> tuple[ImageRecord, ...]:
    """The images that the record at `path` lists; InputError if it is malformed."""
    try:
        lines = read_file(path, limit=None).decode().split("\n")
        return tuple(_parsed(json.loads(line)) for line in lines if line)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError("is not a valid record of a data shard", path=path) from None


def _parsed(row: Any) -> ImageRecord:
    image = ImageRecord(
        row["file_name"], parse_digest(row["digest"]), tuple(row["captions"]), row["label"]
    )
    if not all(isinstance(text, str) for text in (image.name, *image.captions, image.label or "")):
        raise TypeError("a text is missing")
    return image
