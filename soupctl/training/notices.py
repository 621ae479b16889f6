"""Remarks about a dataset that do not stop training, and the words for counts and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..diffusion.base import Conditioning
from ..ledger.data_files import (
    can_be_image,
    masks_among,
    pictures_among,
    plug_ins_for,
    readable_endings,
)
from ..ledger.data_splits import TRAINING, SplitFiles, split_of
from ..ledger.image_metadata import ImageMetadata, caption_files, sidecar_of
from ..ledger.image_tables import METADATA, tables_of
from .repeats import REPEATS

if TYPE_CHECKING:
    from .dataset import Sample

SHOWN = 3


def first_names(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def count_text(number: int, noun: str) -> str:
    """A number with its noun: `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def dataset_notices(
    samples: Sequence[Sample],
    files: Mapping[str, Path],
    rows: Mapping[str, ImageMetadata] | None,
    conditioning: Conditioning,
    *,
    with_masks: bool = False,
) -> Iterator[str]:
    """The remarks about the samples that were found among the files of a folder."""
    texts = caption_files(files)
    sidecars = {each.name: sidecar_of(each.name, texts) for each in samples if rows is None}
    used = set(sidecars.values())
    pictures, known = pictures_among(files), readable_endings()
    used.update(tables_of(files), pictures)
    ignored = [
        name
        for name, path in files.items()
        if name not in used and path.suffix.lower() not in known
    ]
    if pictures:
        yield left_out_text(pictures)
    yield from _mask_notices(samples, list(masks_among(files, rows or ())), used=with_masks)
    if ignored:
        yield f"{count_text(len(ignored), 'file')} ignored: {first_names(sorted(ignored))}"
    folders = {place.as_posix() for each in samples for place in PurePosixPath(each.name).parents}
    if any(each.repeats > 1 for each in samples):
        yield _repeated(samples)
    elif repeated := sorted(each for each in folders if REPEATS.match(each.rpartition("/")[2])):
        yield f"each image counts once, without the repeats of {first_names(repeated)}"
    if rows is None:
        yield from _by_name(samples, sidecars, conditioning)
    yield from _of_other_splits(samples, rows or {})
    if conditioning is Conditioning.NONE and any(each.captions or each.label for each in samples):
        yield "captions and classes are ignored: the base is unconditional"
    if alpha := sum(sample.has_alpha for sample in samples):
        yield f"{count_text(alpha, 'image')} with transparency, placed on white"
    if frames := sum(sample.has_frames for sample in samples):
        images = count_text(frames, "image")
        yield f"{images} with several frames, of which the first is used"


def left_out_text(pictures: Sequence[str]) -> str:
    """A remark about pictures of kinds that are not read, and what reads them."""
    found = count_text(len(pictures), "picture")
    text = f"{found} left out, of a kind that is not read: {first_names(pictures)}"
    if plug_ins := plug_ins_for(pictures):
        text += f" (pip install {' '.join(plug_ins)} reads such)"
    return text


def without_splits(meant: SplitFiles) -> str:
    """A remark about the splits of a folder that are left out."""
    noun = "split" if len(meant.left_out) == 1 else "splits"
    return f"without the {noun} {', '.join(map(repr, meant.left_out))}"


def _repeated(samples: Sequence[Sample]) -> str:
    """A remark about the images that count several times in an epoch."""
    folders = {each.name.rpartition("/")[0]: each.repeats for each in samples}
    counts = [f"{folder} {count} x" for folder, count in sorted(folders.items())]
    visits = sum(each.repeats for each in samples)
    return f"repeats count: {first_names(counts)}, {visits} images an epoch"


def _mask_notices(samples: Sequence[Sample], masks: Sequence[str], *, used: bool) -> Iterator[str]:
    """Remarks about images that are taken for masks by their names, and about those without one."""
    if masks:
        what = "used as a mask" if used else "left out as a mask, by its name"
        if len(masks) > 1:
            what = "used as masks" if used else "left out as masks, by their names"
        text = f"{count_text(len(masks), 'image')} {what}: {first_names(masks)}"
        if any(map(can_be_image, masks)):
            text += f" (with a caption of its own, or in {METADATA}, it is trained on)"
        yield text
    whole = [each.name for each in samples if each.mask is None]
    if whole and used:
        yield f"{count_text(len(whole), 'image')} without a mask, used whole: {first_names(whole)}"


def _shared(sidecars: Mapping[str, str | None]) -> Iterator[str]:
    """A remark about images that have their captions from one file."""
    counts = Counter(sidecars.values())
    if shared := [name for name, sidecar in sidecars.items() if counts[sidecar] > 1]:
        yield f"{len(shared)} images share a caption file: {first_names(shared)}"


def _by_name(
    samples: Sequence[Sample], sidecars: Mapping[str, str | None], conditioning: Conditioning
) -> Iterator[str]:
    """Remarks about what the names of images and caption files mean, without a table of them."""
    if conditioning is Conditioning.TEXT:
        yield from _shared(sidecars)
        yield from _of_several_lines(samples, sidecars)
    else:
        yield from _of_one_name(samples)
    if conditioning is not Conditioning.LABEL:
        yield from _by_folder(samples)


def _of_several_lines(
    samples: Sequence[Sample], sidecars: Mapping[str, str | None]
) -> Iterator[str]:
    """A remark about caption files with several lines, of which each is a caption."""
    several = [
        str(sidecars[each.name])
        for each in samples
        if sidecars.get(each.name) is not None and len(each.captions) > 1
    ]
    if several:
        count = count_text(len(several), "caption file")
        what = f"{count} with several captions, one a line: {first_names(several)}"
        yield f'{what} (caption-files = "whole" in --config makes one of each file)'


def _by_folder(samples: Sequence[Sample]) -> Iterator[str]:
    """A remark about the folders that images are from, if these do not say how often they count."""
    if any(each.repeats > 1 for each in samples):
        return
    counts = Counter(each.name.rpartition("/")[0].partition("/")[0] for each in samples)
    if len(counts) > 1:
        told = [f"{place or 'the folder itself'} {counts[place]}" for place in sorted(counts)]
        yield f"images of several places: {first_names(told)}"


def _of_one_name(samples: Sequence[Sample]) -> Iterator[str]:
    """A remark about images whose names differ in their endings alone."""
    stems = Counter(each.name.rpartition(".")[0] for each in samples)
    if same := [each.name for each in samples if stems[each.name.rpartition(".")[0]] > 1]:
        yield f"{len(same)} images share a name, but for the ending: {first_names(same)}"


def _of_other_splits(samples: Sequence[Sample], rows: Mapping[str, ImageMetadata]) -> Iterator[str]:
    """A remark about images that a table says are of a split for testing."""
    told = [row.split for each in samples if (row := rows.get(each.name)) is not None]
    counts = Counter(split for split in told if split_of(split) not in {"", *TRAINING})
    if counts:
        images, splits = count_text(counts.total(), "image"), ", ".join(map(repr, sorted(counts)))
        yield f"{images} of the split {splits}, as the table says, used as well"
