"""A dataset: the images of a folder with their captions or classes, and the dataset's digest.

Rule 1: every file is checked before training begins, and all problems are reported at once.
Rule 2: nothing is dropped silently: other files are reported, bad images are an error.
Rule 3: the digest covers path, bytes, captions and label of every image, and nothing else.
Rule 4: an image beyond the bounds of `images.decode` is a bad image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from ..checkpoints.digest import PREFIX
from ..diffusion.base import Conditioning
from ..errors import InputError, Issue, OutputError, SoupError
from ..images.decode import TooLarge, check_image, one_large_file, read_image_file
from ..ledger.data_shard import IMAGES, data_digest, files_of_data, is_text
from ..ledger.image_metadata import (
    METADATA,
    ImageMetadata,
    metadata_of,
    read_metadata,
    sidecar_of,
    table_of,
)

SHOWN = 3
UNREAD = ("metadata.parquet", "metadata.json", "captions.txt", "captions.json", "captions.csv")
"""Files in which other programs keep captions."""
SPLITS = frozenset(("train", "test", "val", "valid", "validation", "dev", "eval"))
"""Lowercase names of folders that are splits of a dataset, not classes."""
REPEATS = re.compile(r"[0-9]+_.")
"""The pattern of folder names by which other programs repeat images in an epoch."""
REPLACED = "\ufffd"
"""Stands for bytes that are not valid UTF-8."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset."""

    path: Path
    name: str
    """Path relative to the dataset's folder, with `/`."""
    digest: str
    """BLAKE3 of the file's bytes."""
    size: tuple[int, int]
    """Width and height in pixels, as stored."""
    has_alpha: bool
    has_frames: bool = False
    """Whether there are more frames than the first, which is the one that is used."""
    captions: tuple[str, ...] = ()
    """One of them is chosen at random each time the image is used."""
    label: str | None = None
    """Name of its class, from its folder or `metadata.jsonl`."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images to train on, sorted by name."""

    folder: Path
    samples: tuple[Sample, ...]
    digest: str
    notices: tuple[str, ...]
    """Remarks for the user that do not stop training."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """Something wrong with one file; problems of one kind are reported together."""

    kind: str
    name: str


def scan_dataset(
    folder: Path, conditioning: Conditioning, *, column: str = "text", skip_bad: bool = False
) -> Dataset:
    """The dataset in a folder; every image is decoded once, to check it, and digested.

    Captions come from the `column` of `metadata.jsonl` or from `x.txt` beside `x.png`, classes from
    `label` in `metadata.jsonl` or from the folders that the images are in. Raises InputError with
    all problems; with `skip_bad`, images with a problem are left out instead, and reported.
    """
    if not folder.is_dir():
        raise InputError("is not a folder", path=folder, advice="--data needs a folder of images")
    files = files_of_data(folder)
    images = {name: path for name, path in files.items() if path.suffix.lower() in IMAGES}
    _require_one_split(folder, images)
    rows, problems = _rows(files, images, column)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = list(pool.map(_check_image, images.items()))
    samples = []
    for image in checked:
        if isinstance(image, _Problem):
            problems.append(image)
            continue
        found = metadata_of(image.name, rows, files)
        sample = replace(image, captions=found.captions, label=found.label)
        lacking = _Lacking(conditioning, column, table_of(files), found.is_empty, _unread(files))
        if problem := lacking.problem(sample, rows):
            problems.append(problem)
        else:
            samples.append(sample)
    reports = list(_reports(problems))
    if problems and not skip_bad:
        raise InputError.collected(
            Issue(each, folder, advice="--skip-bad leaves such images out") for each in reports
        )
    if not samples:
        raise InputError("contains no images", path=folder, advice=_image_endings())
    samples.sort(key=lambda sample: sample.name)
    notices = (*reports, *_notices(samples, files, rows, conditioning))
    return Dataset(folder, tuple(samples), data_digest(samples), notices)


def _require_one_split(folder: Path, images: Iterable[str]) -> None:
    """Raise InputError if the images are of several parts of a set, such as `train` and `test`."""
    tops = {name.partition("/")[0] for name in images if "/" in name}
    if len(found := sorted(top for top in tops if top.lower() in SPLITS)) > 1:
        chosen = next((top for top in found if top.lower() == "train"), found[0])
        what = f"has several splits: {', '.join(found)}"
        raise InputError(what, path=folder, advice=f"--data {folder / chosen}")


def _image_endings() -> str:
    return f"image files end in {', '.join(sorted(IMAGES))}"


def _rows(
    files: Mapping[str, Path], images: Mapping[str, Path], column: str
) -> tuple[dict[str, ImageMetadata] | None, list[_Problem]]:
    """The rows of the table by image name, and its problems; None if there is no table."""
    if (table := table_of(files)) is None:
        return None, []
    rows, bad = read_metadata(files[table], column)
    problems = [_Problem(kind, name) for kind, name in bad]
    missing = [name for name in rows if name not in images]
    problems += [_Problem(f"in {table} but missing", name) for name in missing]
    return rows, problems


def _check_image(item: tuple[str, Path]) -> Sample | _Problem:
    """The sample of an image file, without captions and label, or the problem with the file."""
    name, path = item
    if not path.exists():
        return _Problem("that is a broken link", name)
    if not is_text(name):
        return _Problem("with a name that is not valid UTF-8", name)
    try:
        with one_large_file(path):
            data = read_image_file(path)
            header = check_image(data, path)
            digest = _digest(data)
    except TooLarge:
        return _Problem("too large to be decoded safely", name)
    except SoupError:
        return _Problem("unreadable", name)
    return Sample(path, name, digest, header.size, header.has_alpha, header.has_frames)


def _digest(data: bytes) -> str:
    return PREFIX + blake3(data).hexdigest()


def read_unchanged(sample: Sample) -> bytes:
    """The bytes of a sample's file; InputError if unreadable, OutputError if its digest changed."""
    data = read_image_file(sample.path)
    if _digest(data) != sample.digest:
        # the digest of the dataset is in the run's record
        advice = "put the old file back, and run the same command to resume"
        raise OutputError("changed during training", path=sample.path, advice=advice)
    return data


def _unread(files: Mapping[str, Path]) -> str:
    """The name of a file that may have captions in an unsupported format; empty without one."""
    return next((name for name in UNREAD if name in files), "")


@dataclass(frozen=True, slots=True)
class _Lacking:
    """The base's needs of captions or classes, and the places where they were looked for."""

    conditioning: Conditioning
    column: str
    table: str | None
    is_empty: bool
    unread: str

    def problem(self, sample: Sample, rows: Mapping[str, ImageMetadata] | None) -> _Problem | None:
        """The caption or class that the base needs but the sample lacks; None for none."""
        name = sample.name
        if rows is not None and name not in rows:
            return _Problem(f"not in {self.table}", name)
        if self.conditioning is Conditioning.TEXT and not sample.captions:
            return _Problem(self._without_caption(), name)
        if self.conditioning is Conditioning.TEXT and any(
            REPLACED in text for text in sample.captions
        ):
            return _Problem("with a caption that is not valid UTF-8", name)
        if self.conditioning is Conditioning.LABEL and sample.label is None:
            return _Problem("without a class (neither in a subfolder nor with a label)", name)
        return None

    def _without_caption(self) -> str:
        if self.is_empty:
            return "with an empty caption"
        if self.table is not None:
            return (
                f"without a caption (no {self.column!r} in {self.table};"
                " --caption-column names another field)"
            )
        unread = f"; {self.unread} is not read, write {METADATA}" if self.unread else ""
        return f"without a caption (no .txt or .caption file{unread})"


def _reports(problems: Sequence[_Problem]) -> Iterator[str]:
    """The problems by kind, such as `3 images unreadable: a.png, b.png, c.png`."""
    kinds = list(dict.fromkeys(problem.kind for problem in problems))
    for kind in kinds:
        names = [problem.name for problem in problems if problem.kind == kind]
        yield f"{count_text(len(names), 'image')} {kind}: {first_names(names)}"


def first_names(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def count_text(number: int, noun: str) -> str:
    """A number with its noun: `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _notices(
    samples: Sequence[Sample],
    files: Mapping[str, Path],
    rows: Mapping[str, ImageMetadata] | None,
    conditioning: Conditioning,
) -> Iterator[str]:
    used = {sidecar_of(sample.name, files) for sample in samples} if rows is None else set()
    used.add(table_of(files))
    ignored = [
        name
        for name, path in files.items()
        if name not in used and path.suffix.lower() not in IMAGES
    ]
    if ignored:
        yield f"{count_text(len(ignored), 'file')} ignored: {first_names(sorted(ignored))}"
    tops = sorted({each.name.partition("/")[0] for each in samples if "/" in each.name})
    if repeated := [top for top in tops if REPEATS.match(top)]:
        yield f"each image counts once, without the repeats of {first_names(repeated)}"
    if conditioning is Conditioning.NONE and any(each.captions or each.label for each in samples):
        yield "captions and classes are ignored: the base is unconditional"
    if alpha := sum(sample.has_alpha for sample in samples):
        yield f"{count_text(alpha, 'image')} with transparency, placed on white"
    if frames := sum(sample.has_frames for sample in samples):
        images = count_text(frames, "image")
        yield f"{images} with several frames, of which the first is used"
