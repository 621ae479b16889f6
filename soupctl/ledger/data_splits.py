"""The splits of a data shard, such as `train` and `test`: folders that are parts of one data set.

Rule 1: of several splits, the one for training is meant, and the others are never trained on.
Rule 2: training and `has` choose the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..frozen import frozen
from .image_metadata import SIDECARS
from .image_tables import TABLES

TRAINING = frozenset(("train", "training"))
VALIDATION = frozenset(("dev", "eval", "evaluation", "val", "valid", "validation"))
TESTING = frozenset(("holdout", "t10k", "test", "testing"))
SPLITS = TRAINING | VALIDATION | TESTING
"""Lowercase names of folders that are parts of a data set."""
KINDS = "data|images|imgs|set|split"
"""What may follow such a word without a mark between them, as in `trainset`."""
NUMBERED = re.compile(rf"({'|'.join(sorted(SPLITS))})(?:[-._ ]?[0-9]+|[-._ ]?(?:{KINDS}))?")
"""The pattern of their names beside each other, such as `train2017` and `val2017`."""
WORD = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    rf"(?i:({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?:{KINDS})?)"
    r"(?![a-z]|[A-Z]{2})"
)
"""The pattern of such a word in a longer name: `cats_train`, `TestImages`, `trainA`."""


@frozen
class SplitFiles:
    """The files that are meant by a folder: all of them, or those of its split for training."""

    files: Mapping[str, Path]
    """By their path in the split."""
    split: str = ""
    """The name of the split; empty for the whole folder."""
    left_out: tuple[str, ...] = ()
    """The names of the other splits."""


def split_of(name: str) -> str:
    """The split that a name has a word for, that for training if there are several; else empty."""
    if whole := NUMBERED.fullmatch(name.lower()):
        return whole[1]
    words = [word.lower() for word in WORD.findall(name)]
    return next((word for word in words if word in TRAINING), words[0] if words else "")


def splits_among(names: Iterable[str]) -> list[str]:
    """The folders at the top that are splits, in sorted order."""
    return split_folders(name.partition("/")[0] for name in names if "/" in name)


def split_folders(folders: Iterable[str]) -> list[str]:
    """The names of folders that are splits, in sorted order.

    They are words such as `test`, alone or with a number, and names that differ by such a word from
    that of a split for training: `cats_test` beside `cats_train`.
    """
    known = sorted(set(folders))
    kinds: dict[str, set[bool]] = {}
    for folder in known:
        for rest, word in _without_word(folder):
            kinds.setdefault(rest, set()).add(word in TRAINING)
    return [
        folder
        for folder in known
        if NUMBERED.fullmatch(folder.lower())
        or any(len(kinds[rest]) > 1 for rest, _ in _without_word(folder))
    ]


def _without_word(folder: str) -> Iterator[tuple[str, str]]:
    """What is left of a name without each word for a split, and that word, in lower case."""
    for found in WORD.finditer(folder):
        yield f"{folder[: found.start()]}/{folder[found.end() :]}".lower(), found[1].lower()


def files_meant(files: Mapping[str, Path], images: Sequence[str]) -> SplitFiles:
    """The files of the split for training, if a folder is divided into splits; else all its files.

    It is divided if all its images are in splits, of which one is for training, and no table in
    the folder itself names the images to use. If there is one split alone, its images are in
    folders, and no captions are elsewhere.
    """
    splits = splits_among(images)
    chosen = [top for top in splits if split_of(top) in TRAINING]
    is_divided = {name.partition("/")[0] for name in images} == set(splits)
    if not is_divided or len(chosen) != 1 or any(table in files for table in TABLES):
        return SplitFiles(files)
    (split,) = chosen
    if len(splits) == 1 and not _is_whole(split, files, images):
        return SplitFiles(files)
    inside = {
        name.removeprefix(f"{split}/"): path
        for name, path in files.items()
        if name.startswith(f"{split}/")
    }
    return SplitFiles(inside, split, tuple(each for each in splits if each != split))


def _is_whole(split: str, files: Iterable[str], images: Iterable[str]) -> bool:
    """Whether a split has its images in folders, as classes are, and all captions of them."""
    outside = (name for name in files if not name.startswith(f"{split}/"))
    has_captions = any(name.lower().endswith(SIDECARS) for name in outside)
    in_folders = all(name.count("/") > 1 for name in images)
    return split.lower() in TRAINING and in_folders and not has_captions
