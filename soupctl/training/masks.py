"""Masks of images, which say which parts of an image count in the loss: `x.mask.png` for `x.png`.

Rule 1: a mask has the size of its image, and is scaled, cropped and mirrored as that is.
Rule 2: the identity of a run covers the bytes of each mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..checkpoints.digest import text_digest
from ..errors import InputError
from ..ledger.sealed import canonical
from .image_problems import ImageProblem

if TYPE_CHECKING:
    from .dataset import Sample


def with_masks(
    samples: Iterable[Sample | ImageProblem],
    stems: Mapping[str, str],
    masks: Mapping[str, Sample],
) -> Iterator[Sample | ImageProblem]:
    """The samples with their masks, or the problem with the mask of one.

    `stems` has for each mask the path of its image without the ending; see `masks_among`.
    """
    names = {stem: name for name, stem in stems.items()}
    for sample in samples:
        if isinstance(sample, ImageProblem):
            yield sample
            continue
        mask = masks.get(names.get(str(PurePosixPath(sample.name).with_suffix("")), ""))
        if mask is not None and mask.size != sample.size:
            yield ImageProblem("with a mask of another size", sample.name)
        else:
            yield replace(sample, mask=mask)


def require_masks(folder: Path, samples: Sequence[Sample]) -> None:
    """Raise InputError if no image has a mask."""
    if all(each.mask is None for each in samples):
        what = "has no masks, such as x.mask.png or masks/x.png for x.png"
        raise InputError(what, path=folder, advice="remove --masked-loss")


def masks_digest(samples: Sequence[Sample]) -> str:
    """The digest of all masks, by the names of their images."""
    rows = [[each.name, each.mask.digest] for each in samples if each.mask is not None]
    return text_digest(canonical(rows))
