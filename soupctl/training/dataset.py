"""A dataset: the images of a folder with their captions or classes, and the dataset's digest.

Rule 1: every file is checked before training begins, and all problems are reported at once.
Rule 2: nothing is dropped silently: other files are reported, bad images are an error.
Rule 3: the digest covers path, bytes, captions and label of every image, and nothing else.
Rule 4: an image beyond the bounds of `images.decode` is a bad image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..diffusion.base import Conditioning
from ..errors import InputError, Issue, OutputError
from ..images.decode import read_image_file
from ..ledger.data_files import (
    images_among,
    masks_among,
    packed_among,
    pictures_among,
    plug_ins_for,
    readable_endings,
)
from ..ledger.data_shard import data_digest
from ..ledger.image_metadata import (
    caption_files,
    metadata_of,
)
from ..ledger.image_tables import read_tables
from .data_source import DataSource, source_of
from .image_checks import bytes_digest, checked_images
from .image_problems import ImageProblem, Lacking, problem_reports
from .kept_scan import ScannedImage, forget_scan
from .masks import require_masks
from .masks import with_masks as add_masks
from .notices import count_text, dataset_notices, first_names
from .repeats import repeats_of
from .splits import require_one_split

VALIDATE = "--validate"
"""The option for images that are not trained on."""
UNREAD = "of a kind that is not read"
"""What is wrong with an image that a table names, and that needs a plug-in."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset."""

    path: Path
    name: str
    """Path relative to the dataset's folder, with `/`."""
    digest: str
    """BLAKE3 of the file's bytes."""
    size: tuple[int, int]
    """Width and height in pixels, upright."""
    has_alpha: bool
    has_frames: bool = False
    """Whether there are more frames than the first, which is the one that is used."""
    captions: tuple[str, ...] = ()
    """One of them is chosen at random each time the image is used."""
    label: str | None = None
    """Name of its class, from its folder or `metadata.jsonl`."""
    repeats: int = 1
    """How often it counts in an epoch."""
    mask: Sample | None = None
    """The image that says which parts of it count; None if all do, or masks are not used."""

    @property
    def folder(self) -> Path:
        """The dataset's folder."""
        return self.path.parents[self.name.count("/")]


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images to train on, sorted by name."""

    folder: Path
    samples: tuple[Sample, ...]
    digest: str
    notices: tuple[str, ...]
    """Remarks for the user that do not stop training."""
    split: str = ""
    """The folder's split that is used; empty for the whole folder."""


def scan_dataset(
    folder: Path,
    conditioning: Conditioning,
    *,
    column: str = "text",
    whole: bool = False,
    skip_bad: bool = False,
    with_repeats: bool = False,
    with_masks: bool = False,
    option: str = "--data",
) -> Dataset:
    """The dataset in a folder; every image is decoded, to check it, and digested.

    Captions come from the `column` of `metadata.jsonl` or from `x.txt` beside `x.png`, one a line
    or with `whole` one a file, classes from `label` in `metadata.jsonl` or from the folders that
    the images are in. Raises InputError with all problems; with `skip_bad`, images with a problem
    are left out instead, and reported. `with_repeats` counts images as `repeats_of` says, unless
    the base takes classes; `with_masks` gives each its mask, if it has one.
    """
    if not folder.is_dir():
        raise InputError(
            "is not a folder", path=folder, advice=f"{option} needs a folder of images"
        )
    source = source_of(folder, conditioning, for_validation=option == VALIDATE)
    files, has_classes = source.files, conditioning is Conditioning.LABEL
    rows, bad_lines = read_tables(files, column)
    if bad_lines and not rows:
        _refuse_table(folder, bad_lines)
    images, masks = images_among(files, listed=rows or ()), masks_among(files, rows or ())
    require_one_split(
        folder, images, is_listed=rows is not None, classes=has_classes, option=option
    )
    used = {**images, **{name: files[name] for name in masks if with_masks}}
    checked = {
        name: _as_sample(name, used[name], each)
        for name, each in checked_images(source.place, used).items()
    }
    lacking = Lacking.of(conditioning, column, source.tables, files, rows)
    found = _described([checked[name] for name in images], lacking, whole=whole)
    problems = list(_table_problems(source, images, masks, rows or (), bad_lines))
    if with_masks:
        good_masks, bad_masks = _good_and_bad(checked[name] for name in masks)
        problems += bad_masks
        found = add_masks(found, masks, {each.name: each for each in good_masks})
    samples, bad_images = _good_and_bad(found)
    reports = list(problem_reports([*problems, *bad_images]))
    _require_samples(folder, files, samples, reports, skip_bad=skip_bad)
    samples.sort(key=lambda sample: sample.name)
    if with_repeats and not has_classes:
        counts = repeats_of(samples)
        samples = [replace(each, repeats=n) for each, n in zip(samples, counts, strict=True)]
    if with_masks:
        require_masks(folder, samples)
    notices = (
        *source.notices,
        *reports,
        *dataset_notices(samples, files, rows, conditioning, with_masks=with_masks),
    )
    return Dataset(folder, tuple(samples), data_digest(samples), notices, source.split)


def _refuse_table(folder: Path, bad: Iterable[tuple[str, str]]) -> None:
    """Raise InputError for tables of which no line is as it must be."""
    reports = problem_reports([ImageProblem(kind, name) for kind, name in bad])
    advice = "each line needs file_name, and a caption or a label"
    raise InputError.collected(Issue(each, folder, advice=advice) for each in reports)


def _good_and_bad(
    images: Iterable[Sample | ImageProblem],
) -> tuple[list[Sample], list[ImageProblem]]:
    """The images that can be used, and the problems of the others."""
    every = list(images)
    good = [each for each in every if isinstance(each, Sample)]
    return good, [each for each in every if isinstance(each, ImageProblem)]


def _require_samples(
    folder: Path,
    files: Mapping[str, Path],
    samples: Sequence[Sample],
    reports: Sequence[str],
    *,
    skip_bad: bool,
) -> None:
    """Raise InputError with the reports of problems that are not skipped, or without samples."""
    if reports and not (skip_bad and samples):
        # without them, no image would be left
        advice = "--skip-bad leaves such images out" if samples else None
        raise InputError.collected(Issue(each, folder, advice=advice) for each in reports)
    if not samples:
        raise _no_images(folder, files)


def _described(
    images: Iterable[Sample | ImageProblem], lacking: Lacking, *, whole: bool
) -> Iterator[Sample | ImageProblem]:
    """The images with their captions and classes, or what they lack of them."""
    texts = caption_files(lacking.files)
    for image in images:
        if isinstance(image, ImageProblem):
            yield image
            continue
        found = metadata_of(image.name, lacking.rows, texts, whole=whole)
        sample = replace(image, captions=found.captions, label=found.label)
        yield lacking.problem(sample, found) or sample


def _no_images(folder: Path, files: Mapping[str, Path]) -> InputError:
    """The error for a folder without images that can be used."""
    if packed := packed_among(files):
        name, advice = next(iter(packed.items()))
        what = f"contains no images, but {name}, which may pack some and is not read"
        return InputError(what, path=folder, advice=advice)
    endings = f"image files end in {', '.join(sorted(readable_endings()))}"
    if pictures := pictures_among(files):
        what = f"contains no images, but {count_text(len(pictures), 'picture')} of other kinds"
        if plug_ins := plug_ins_for(pictures):
            endings += f"; pip install {' '.join(plug_ins)} reads such pictures"
        return InputError(f"{what}: {first_names(pictures)}", path=folder, advice=endings)
    return InputError("contains no images", path=folder, advice=endings)


def _table_problems(
    source: DataSource,
    images: Collection[str],
    masks: Iterable[str],
    listed: Iterable[str],
    bad: Iterable[tuple[str, str]],
) -> Iterator[ImageProblem]:
    """What is wrong with the tables: bad lines, and images that they list and that are not used."""
    yield from (ImageProblem(kind, name) for kind, name in bad)
    missing = "without bytes" if source.is_packed else f"in {source.tables} but missing"
    kinds = dict.fromkeys(masks, f"in {source.tables}, but a mask by its name")
    kinds |= dict.fromkeys(pictures_among(source.files), UNREAD)
    for name in listed:
        if name not in images:
            yield ImageProblem(kinds.get(name, missing), name)


def _as_sample(name: str, path: Path, image: ScannedImage | ImageProblem) -> Sample | ImageProblem:
    if isinstance(image, ImageProblem):
        return image
    header = image.header
    return Sample(path, name, image.digest, header.size, header.has_alpha, header.has_frames)


def read_unchanged(sample: Sample) -> bytes:
    """The bytes of a sample's file; InputError if unreadable, OutputError if its digest changed."""
    data = read_image_file(sample.path)
    if bytes_digest(data) != sample.digest:
        # else a change that left no trace in the file's times would not be noticed next time either
        forget_scan(sample.folder)
        # the digest of the dataset is in the run's record
        advice = "put the old file back, and run the same command to resume"
        raise OutputError("changed during training", path=sample.path, advice=advice)
    return data
