"""Folders of a data shard that are parts of a dataset, such as `train` and `test`, not classes.

Rule 1: images that were set aside for testing are never trained on, nor is a part of a dataset
taken for a class, unless the user names its folder.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from ..errors import InputError
from ..ledger.data_splits import TRAINING, split_folders, split_of, splits_among
from ..ledger.image_metadata import IMAGE_FOLDERS

REGULARIZATION = frozenset(("reg", "regs", "regularization", "regularisation"))
"""Lowercase first words of folders of regularization images, which other programs weight less."""
ANNOTATIONS = frozenset(
    (
        *("annotation", "annotations", "conditioning", "conditioning_images", "control", "depth"),
        *("edges", "gt", "ground_truth", "groundtruth", "label", "labels", "mattes", "seg"),
        *("segmentation", "segmentations", "segmentationclass", "segmentationobject", "trimaps"),
    )
)
"""Lowercase names of folders of pictures that say something about images."""
PHOTOGRAPHS = frozenset((*IMAGE_FOLDERS, "jpegimages"))
"""Lowercase names of folders that these images are in."""
SUBJECT, CLASS = ("instance", "instances"), ("class", "classes")
"""Lowercase first words of the folders of DreamBooth: of a subject, and of others of its class."""


def require_one_split(
    folder: Path, images: Collection[str], *, is_listed: bool, classes: bool, option: str = "--data"
) -> None:
    """Raise InputError if images are of several parts of a dataset, or one would be misunderstood.

    `is_listed` says that a table names the images to use, so that one part is what was meant;
    `classes`, that folders are classes; `option` is the one that names the folder.
    """
    places = sorted({name.rpartition("/")[0] for name in images})
    tops = sorted({place.partition("/")[0] for place in places})
    splits = splits_among(images)
    if len(splits) > 1:
        chosen = next((top for top in splits if split_of(top) in TRAINING), splits[0])
        what = f"has several splits: {', '.join(splits)}"
        raise InputError(what, path=folder, advice=f"{option} {folder / chosen}")
    _require_one_below(folder, places, option)
    _require_no_regularization(folder, tops)
    if not is_listed:
        _require_no_annotations(folder, images)
    if is_listed or not splits:
        return
    (top,) = splits
    if split_of(top) not in TRAINING:
        what = f"has the folder {top}, which is a split for testing"
        advice = f"{option} {folder / top} uses it; else move it elsewhere"
        raise InputError(what, path=folder, advice=advice)
    if classes and tops == splits:
        what = f"has the folder {top}, which is a split, not a class"
        raise InputError(what, path=folder, advice=f"{option} {folder / top}")


def _require_one_below(folder: Path, places: Sequence[str], option: str) -> None:
    """Raise InputError for several splits in subfolders, such as `cat/train` and `cat/test`."""
    parts = {
        part: "/".join(place.split("/")[: depth + 1])
        for place in places
        for depth, part in enumerate(place.split("/"))
    }
    found = {split_of(part): parts[part] for part in split_folders(parts)}
    if len(found) > 1:
        what = f"has several splits: {', '.join(sorted(found.values()))}"
        training = [place for split, place in found.items() if split in TRAINING]
        inside = {PurePosixPath(place).parent for place in found.values()}
        advice = "move all but one elsewhere, or name the images to use in metadata.jsonl"
        if len(training) == len(inside) == 1 and _are_all_in(f"{inside.pop()}/", places):
            advice = f"{option} {folder / training[0]}"
        raise InputError(what, path=folder, advice=advice)


def _are_all_in(place: str, places: Sequence[str]) -> bool:
    return all(each.startswith(place) for each in places)


def _require_no_annotations(folder: Path, images: Collection[str]) -> None:
    """Raise InputError for pictures about the images beside them, such as maps of their parts."""
    tops: dict[str, set[str]] = {}
    for name in images:
        tops.setdefault(name.partition("/")[0], set()).add(PurePosixPath(name).stem)
    for top, stems in tops.items():
        if top.lower() in ANNOTATIONS:
            of = next((each for each in tops if each.lower() in PHOTOGRAPHS), None)
            if of is not None and stems & tops[of]:
                what = f"has pictures in {top} that have the names of those in {of}"
                advice = f"move {top} elsewhere, or --data {folder / of}"
                raise InputError(what, path=folder, advice=advice)


def _require_no_regularization(folder: Path, tops: Sequence[str]) -> None:
    """Raise InputError for a folder of regularization images beside the images."""
    words = {top: re.split(r"[^a-z]", top.lower(), maxsplit=1)[0] for top in tops}
    has_subject = any(word in SUBJECT for word in words.values())
    others = REGULARIZATION.union(CLASS if has_subject else ())
    found = [top for top in tops if words[top] in others]
    if found and len(tops) > len(found):
        other = next(top for top in tops if top not in found)
        what = f"has regularization images in {found[0]}"
        advice = f"--data {folder / other} --regularization {folder / found[0]}"
        if not other:
            advice = f"move {found[0]} elsewhere, and name it with --regularization"
        raise InputError(what, path=folder, advice=advice)
