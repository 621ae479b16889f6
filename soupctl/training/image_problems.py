"""What is wrong with the images of a dataset: problems of files, and captions or classes they lack.

Rule 1: problems of one kind are reported together, with the names of some of the images.
Rule 2: the files of a folder are searched once, however many of its images lack a caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..diffusion.base import Conditioning
from ..ledger.data_files import images_among
from ..ledger.image_metadata import REPLACED, SIDECARS, ImageMetadata
from ..ledger.image_tables import METADATA, TABLES
from .notices import count_text, first_names

if TYPE_CHECKING:
    from .dataset import Sample

UNREAD = frozenset(
    (
        *("metadata.json", "captions.txt", "captions.json", "captions.csv"),
        *("meta_cap.json", "meta_lat.json", *TABLES),
    )
)
"""Files in which other programs keep captions, in lower case; tables in other letters, too."""
UNREAD_TABLES = (".csv", ".json", ".jsonl", ".parquet", ".tsv", ".xlsx")
"""Endings of files that may be tables of captions or labels, in lower case."""
CAPTIONS = frozenset((".cap", ".caption", ".json", ".tags", ".text", ".txt", ".xml", ".yaml"))
"""Lowercase endings of files in which other programs keep the caption of one image."""


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """Something wrong with one file; problems of one kind are reported together."""

    kind: str
    name: str
    reason: str = ""
    """Why this file has a problem of that kind, in a few words; empty if nothing more is known."""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


@dataclass(frozen=True, slots=True)
class Lacking:
    """The base's needs of captions or classes, and the places where they were looked for."""

    conditioning: Conditioning
    column: str
    tables: str
    files: Mapping[str, Path]
    rows: Mapping[str, ImageMetadata] | None
    unread: Mapping[str, str]
    """The file that may hold a caption of an image, and is not read; see `unread_captions`."""
    unread_table: str
    """The file in which another program keeps captions of all images; empty for none."""

    @classmethod
    def of(
        cls,
        conditioning: Conditioning,
        column: str,
        tables: str,
        files: Mapping[str, Path],
        rows: Mapping[str, ImageMetadata] | None,
    ) -> Lacking:
        """The needs of a base, and what is among the files of a folder."""
        unread: Mapping[str, str] = {}
        table = ""
        if conditioning is not Conditioning.NONE and rows is None:
            images = list(images_among(files))
            unread = unread_captions(files, images)
            table = _unread_table(files, images)
        return cls(conditioning, column, tables, files, rows, unread, table)

    def problem(self, sample: Sample, found: ImageMetadata) -> ImageProblem | None:
        """What the base needs and a sample lacks, by what was found of it; None for nothing."""
        name = sample.name
        if self.rows is not None and name not in self.rows:
            return ImageProblem(f"not in {self.tables}", name)
        if self.conditioning is Conditioning.TEXT and not sample.captions:
            return ImageProblem(self._without_caption(name, found.is_empty), name)
        if self.conditioning is Conditioning.TEXT and found.instead:
            what = f"whose caption file has {found.instead} instead of a caption"
            return ImageProblem(f"{what} (captions may be in {METADATA})", name)
        if self.conditioning is Conditioning.TEXT and any(
            REPLACED in text for text in sample.captions
        ):
            return ImageProblem("with a caption that is not valid UTF-8", name)
        if self.conditioning is Conditioning.LABEL and sample.label is None:
            return ImageProblem(self._without_class(), name)
        return None

    def _without_class(self) -> str:
        places = "neither in a subfolder nor with a label"
        if self.rows is not None:
            return f"without a class ({places}: no 'label' in {self.tables})"
        return f"without a class ({places}{self._unread_table_text()})"

    def _unread_table_text(self) -> str:
        if not self.unread_table:
            return ""
        return f"; {self.unread_table} is not read, write {METADATA}"

    def _without_caption(self, name: str, is_empty: bool) -> str:
        if is_empty:
            return "with an empty caption"
        if self.rows is not None:
            return (
                f"without a caption (no {self.column!r} in {self.tables};"
                " caption-column in --config names another field)"
            )
        unread = self._unread_table_text()
        if not unread and (example := self.unread.get(name)):
            file, image = PurePosixPath(example), PurePosixPath(name)
            if file.suffix.lower() in SIDECARS and file.parent == image.parent:
                unread = f"; {file.suffix} files such as {example} differ in upper and lower case"
            else:
                unread = f"; {file.suffix} files such as {example} are not read"
        return f"without a caption (no .txt or .caption file{unread})"


def _unread_table(files: Mapping[str, Path], images: Sequence[str]) -> str:
    """The file that is likeliest to be a table that is not read; empty for none."""
    if known := next((name for name in files if name.lower() in UNREAD), ""):
        return known
    stems = {PurePosixPath(name).stem for name in images}
    others = (
        name
        for name in sorted(files, key=lambda name: (name.count("/"), name))
        if name.lower().endswith(UNREAD_TABLES) and PurePosixPath(name).stem not in stems
    )
    return next(others, "")


def unread_captions(files: Mapping[str, Path], images: Sequence[str]) -> dict[str, str]:
    """For each image with a file that may hold its caption but is not read, an example of these.

    The example is the first such file with the same ending, so that images are reported together.
    """
    places: dict[str, PurePosixPath] = {}
    for other in map(PurePosixPath, files):
        if other.suffix.lower() in CAPTIONS:
            places.setdefault(other.stem.casefold(), other)
    found: dict[str, str] = {}
    examples: dict[str, str] = {}
    for image in map(PurePosixPath, images):
        if file := places.get(image.stem.casefold()) or places.get(image.name.casefold()):
            found[str(image)] = examples.setdefault(file.suffix, str(file))
    return found


def problem_reports(problems: Sequence[ImageProblem]) -> Iterator[str]:
    """The problems by kind, such as `3 images unreadable: a.png, b.png, c.png`."""
    kinds = list(dict.fromkeys(problem.kind for problem in problems))
    for kind in kinds:
        names = [str(problem) for problem in problems if problem.kind == kind]
        yield f"{count_text(len(names), 'image')} {kind}: {first_names(names)}"
