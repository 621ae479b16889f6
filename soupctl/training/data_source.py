"""Where the images of a data shard are: in its folder, in a split of it, or unpacked in the cache.

Rule 1: what is left out of a folder is reported.
Rule 2: packed files are read only if the folder has no images of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..diffusion.base import Conditioning
from ..errors import InputError
from ..ledger.data_files import files_of_data, images_among
from ..ledger.data_splits import SplitFiles, files_meant, splits_among
from ..ledger.image_tables import tables_of
from .notices import count_text, first_names, without_splits
from .packed import is_packed
from .unpack import Unpacked, unpacked


@dataclass(frozen=True, slots=True)
class DataSource:
    """The files of a data shard, and the folder that they are in."""

    place: Path
    files: Mapping[str, Path]
    """By their path in that folder."""
    tables: str
    """The names of the files that describe images; empty for none."""
    split: str = ""
    """The folder's split that they are; empty for the whole folder."""
    is_packed: bool = False
    notices: tuple[str, ...] = ()
    """What is left out, and where packed images are."""


def source_of(
    folder: Path, conditioning: Conditioning, *, for_validation: bool = False
) -> DataSource:
    """The files that are meant by a folder; raises the errors of `unpacked`."""
    files = files_of_data(folder)
    images = list(images_among(files))
    if not images and (found := unpacked(folder, files, for_validation=for_validation)):
        return _packed_source(folder, found, "validation" if for_validation else "training")
    meant = files_meant(files, images)
    # images without a class in a split: for a base that takes classes, the folder may be one
    if conditioning is Conditioning.LABEL and not _has_classes(meant.files):
        meant = SplitFiles(files)
    told = [without_splits(meant)] if meant.left_out else []
    if packs := [name for name in meant.files if is_packed(name)]:
        count = count_text(len(packs), "packed file")
        what = f"{count} left out, because the folder has images: {first_names(packs)}"
        told.append(f"{what} (to use them, move the images elsewhere)")
    place, tables = folder / meant.split, ", ".join(tables_of(meant.files))
    return DataSource(place, meant.files, tables, meant.split, notices=tuple(told))


def _has_classes(files: Mapping[str, Path]) -> bool:
    """Whether all images are in folders, or a table describes them."""
    return bool(tables_of(files)) or all("/" in name for name in images_among(files))


def _packed_source(folder: Path, found: Unpacked, use: str) -> DataSource:
    """The source of unpacked images for a `use`; InputError if they are of several splits."""
    files, packs = files_of_data(found.folder), first_names(found.packs)
    if len(splits := splits_among(images_among(files))) > 1:
        what = f"has several splits inside {packs}: {', '.join(splits)}"
        raise InputError(what, path=folder, advice="unpack it, and give the folder of one split")
    told = [f"packed images of {packs}, unpacked to {found.folder}"]
    if found.left_out:
        told.append(f"only the split for {use} is used, without {first_names(found.left_out)}")
    if found.tables:
        told.append(f"not read, beside tar files of the same name: {first_names(found.tables)}")
    return DataSource(found.folder, files, packs, is_packed=True, notices=tuple(told))
