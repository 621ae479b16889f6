"""What is wrong with the images of a dataset: problems of files, and captions or classes they lack.

Rule 1: problems of one kind are reported together, with the names of some of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..diffusion.base import Conditioning
from ..ledger.image_metadata import METADATA, REPLACED, ImageMetadata
from .notices import count_text, first_names

if TYPE_CHECKING:
    from .dataset import Sample

UNREAD = ("metadata.json", "captions.txt", "captions.json", "captions.csv")
"""Files in which other programs keep captions."""
CAPTIONS = frozenset((".cap", ".caption", ".json", ".tags", ".text", ".txt", ".xml", ".yaml"))
"""Lowercase endings of files in which other programs keep the caption of one image."""


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """Something wrong with one file; problems of one kind are reported together."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Lacking:
    """The base's needs of captions or classes, and the places where they were looked for."""

    conditioning: Conditioning
    column: str
    tables: str
    files: Mapping[str, Path]
    rows: Mapping[str, ImageMetadata] | None

    def problem(self, sample: Sample, *, is_empty: bool) -> ImageProblem | None:
        """The caption or class that the base needs but the sample lacks; None for none.

        `is_empty` says that the sample has a caption, without a word.
        """
        name = sample.name
        if self.rows is not None and name not in self.rows:
            return ImageProblem(f"not in {self.tables}", name)
        if self.conditioning is Conditioning.TEXT and not sample.captions:
            return ImageProblem(self._without_caption(name, is_empty), name)
        if self.conditioning is Conditioning.TEXT and any(
            REPLACED in text for text in sample.captions
        ):
            return ImageProblem("with a caption that is not valid UTF-8", name)
        if self.conditioning is Conditioning.LABEL and sample.label is None:
            return ImageProblem("without a class (neither in a subfolder nor with a label)", name)
        return None

    def _without_caption(self, name: str, is_empty: bool) -> str:
        if is_empty:
            return "with an empty caption"
        if self.rows is not None:
            return (
                f"without a caption (no {self.column!r} in {self.tables};"
                " caption-column in --config names another field)"
            )
        found = next((each for each in UNREAD if each in self.files), "")
        unread = f"; {found} is not read, write {METADATA}" if found else self._namesake(name)
        return f"without a caption (no .txt or .caption file{unread})"

    def _namesake(self, name: str) -> str:
        """The first file that may hold an image's captions, by the rest of its name, in words."""
        place = PurePosixPath(name)
        for other in self.files:
            path = PurePosixPath(other)
            if path.stem in (place.stem, place.name) and path.suffix.lower() in CAPTIONS:
                return f"; {path.suffix} files such as {other} are not read"
        return ""


def problem_reports(problems: Sequence[ImageProblem]) -> Iterator[str]:
    """The problems by kind, such as `3 images unreadable: a.png, b.png, c.png`."""
    kinds = list(dict.fromkeys(problem.kind for problem in problems))
    for kind in kinds:
        names = [problem.name for problem in problems if problem.kind == kind]
        yield f"{count_text(len(names), 'image')} {kind}: {first_names(names)}"
