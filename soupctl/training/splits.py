"""Folders of a data shard that are parts of a dataset, such as `train` and `test`, not classes.

Rule 1: images that were set aside for testing are never trained on, nor is a part of a dataset
taken for a class, unless the user names its folder.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ..errors import InputError
from ..ledger.data_splits import TRAINING, split_folders, split_of, splits_among

REGULARIZATION = frozenset(("reg", "regs", "regularization", "regularisation"))
"""Lowercase first words of folders of regularization images, which other programs weight less."""
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
    _require_one_below(folder, places)
    _require_no_regularization(folder, tops)
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


def _require_one_below(folder: Path, places: Sequence[str]) -> None:
    """Raise InputError for several splits in subfolders, such as `cat/train` and `cat/test`."""
    parts = {
        part: "/".join(place.split("/")[: depth + 1])
        for place in places
        for depth, part in enumerate(place.split("/"))
    }
    found = {split_of(part): parts[part] for part in split_folders(parts)}
    if len(found) > 1:
        what = f"has several splits: {', '.join(sorted(found.values()))}"
        advice = "move all but one elsewhere, or name the images to use in metadata.jsonl"
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
        raise InputError(what, path=folder, advice=advice)
