"""How often images count in an epoch, by folder names such as `10_sks dog`.

Rule 1: the number counts only if all images are in such folders, as in a data set for kohya's
scripts; else it may be part of any name.
Rule 2: years and numbers with leading zeros are never repeats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dataset import Sample

REPEATS = re.compile(r"([1-9][0-9]{0,2})_.")
"""The pattern of the names of folders that say how often each image counts."""


def repeats_of(samples: Sequence[Sample]) -> list[int]:
    """How often each image counts in an epoch: the number of its folder, or 1 for all images."""
    found = [_repeats(each.name) for each in samples]
    return [count or 1 for count in found] if all(found) else [1] * len(found)


def _repeats(name: str) -> int:
    """The number of the innermost folder that has one; 0 if there is none."""
    for folder in PurePosixPath(name).parents:
        if match := REPEATS.match(folder.name):
            return int(match[1])
    return 0


def repeats_text(samples: Sequence[Sample]) -> str:
    """The repeats by folder, for the identity of a run; empty if all images count once."""
    folders = {each.name.rpartition("/")[0]: each.repeats for each in samples if each.repeats > 1}
    return ", ".join(f"{folder} {count}" for folder, count in sorted(folders.items()))
