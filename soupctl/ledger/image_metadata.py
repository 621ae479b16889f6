"""Captions and labels of images, from a table of them or from sidecar files and folders.

Rule 1: no image is opened, so that a data shard can be described without the libraries that train.
Rule 2: names of caption files match in any Unicode normal form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..frozen import frozen
from ..pattern import pattern
from ..storage.files import read_file

SIDECARS = (".txt", ".caption", ".tags")
"""Lowercase endings of caption files beside an image; the first that exists is used."""
ELSEWHERE = "captions"
"""A folder that may hold these files instead."""
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
"""Lowercase names of folders of images that the folder of captions may be beside."""
NUMBER = r"[-+]?[0-9]+(?:[.][0-9]+)?(?:[eE][-+]?[0-9]+)?"
ONE_NUMBER = pattern(NUMBER)
"""The pattern of a word that is a number."""
BOX = pattern(rf"(?<![^\s,])(?:{NUMBER}(?:\s*,\s*|\s+|$)){{4}}")
"""The pattern of four numbers in a row, as of a box around an object."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for one which Git LFS has not fetched."""
OTHER_TEXTS = {
    "<!doctype": "a web page",
    "<html": "a web page",
    "<?xml": "XML",
    "{\\rtf": "rich text",
    '{"': "JSON",
}
"""How files begin, in lower case, that are no plain text, and what they are."""
REPLACED = "\ufffd"
"""Stands for bytes that are not valid UTF-8."""


@frozen
class ImageMetadata:
    """Captions and label of one image."""

    captions: tuple[str, ...] = ()
    label: str | None = None
    is_empty: bool = False
    """Whether it has a caption that is empty."""
    instead: str = ""
    """What its caption file has instead of a caption, in words; empty if nothing is known."""
    split: str = ""
    """The split that its table says it is of; empty if it says nothing."""


def metadata_of(
    name: str,
    rows: Mapping[str, ImageMetadata] | None,
    files: Mapping[str, Path],
    *,
    whole: bool = False,
) -> ImageMetadata:
    """Captions and label of the image `name`: its row's, or those of its sidecar file and folder.

    `rows` are those of the table, None without one; `files` are the folder's, by name. A sidecar
    file has one caption a line, or with `whole` one in all. Raises InputError if it is unreadable.
    """
    top, inside, _ = name.partition("/")
    label = top if inside else None
    if rows is not None:
        row = rows.get(name, ImageMetadata())
        return replace(row, label=row.label or label)
    sidecar = sidecar_of(name, files)
    captions: tuple[str, ...] = ()
    instead = ""
    if sidecar is not None:
        # in UTF-16, letters are valid UTF-8 with zeros between them
        data = read_file(files[sidecar])
        text = data.decode("utf-8-sig", "replace").replace("\0", REPLACED)
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        instead = _instead_of_captions(data, lines)
        captions = tuple([" ".join(text.split())] if whole and lines else lines)
    return ImageMetadata(captions, label, sidecar is not None and not captions, instead)


def _instead_of_captions(data: bytes, lines: Sequence[str]) -> str:
    """What a caption file with these lines has instead of captions; empty if it has captions."""
    if data.startswith(LFS_POINTER):
        return "a pointer of Git LFS"
    begins = lines[0].lower() if lines else ""
    if found := next((what for start, what in OTHER_TEXTS.items() if begins.startswith(start)), ""):
        return found
    # YOLO and others list the objects of an image so
    is_boxes = bool(lines) and all(map(_is_box, lines))
    return "rows of numbers, as of boxes around objects" if is_boxes else ""


def _is_box(line: str) -> bool:
    """Whether a line has four numbers in a row, as of a box, and at most as many words."""
    words = line.replace(",", " ").split()
    numbers = [word for word in words if ONE_NUMBER.fullmatch(word)]
    return bool(BOX.search(line)) and 2 * len(numbers) >= len(words)


def caption_files(files: Mapping[str, Path]) -> Mapping[str, Path]:
    """The files that captions may be in, by their names."""
    return {name: path for name, path in files.items() if name.lower().endswith(SIDECARS)}


def sidecar_of(name: str, files: Mapping[str, Path]) -> str | None:
    """The name of the file with the captions of the image `name`; None if there is none.

    It is looked for by dozens of names; without any file this is cheap (see `caption_files`).
    """
    if not files:
        return None
    # a broken link has no captions, and a pipe would be waited for
    return next((each for each in _sidecars(name) if each in files and files[each].is_file()), None)


def _sidecars(name: str) -> Iterator[str]:
    """The possible names of an image's sidecar file, the likeliest first."""
    # imported late, because most commands read no images
    from unicodedata import normalize  # noqa: PLC0415

    path = PurePosixPath(name)
    for folder in (path.parent, path.parent / ELSEWHERE, ELSEWHERE / path.parent, *_beside(path)):
        for stem in (path.stem, path.name):
            for ending in SIDECARS:
                for spelled in dict.fromkeys(
                    (stem, *(normalize(form, stem) for form in ("NFC", "NFD")))
                ):
                    yield (folder / f"{spelled}{ending}").as_posix()
                    yield (folder / f"{spelled}{ending.upper()}").as_posix()


def _beside(path: PurePosixPath) -> Iterator[PurePosixPath]:
    """The folders of captions beside a folder of images that the image at `path` is in."""
    parts = path.parent.parts
    for place, part in enumerate(parts):
        if part.lower() in IMAGE_FOLDERS:
            yield PurePosixPath(*parts[:place], ELSEWHERE, *parts[place + 1 :])
