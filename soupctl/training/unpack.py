"""Packed images of a data shard, unpacked once to the user's cache: image files and their table.

Rule 1: the folder's name covers the identity of each packed file, so that a file that changed is
unpacked anew.
Rule 2: of several splits, as in `train-00000-of-00002.parquet`, the one for training is meant.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..checkpoints.digest import PREFIX, text_digest
from ..errors import InputError, LimitError, OutputError, shortened
from ..images.decode import LARGEST_FILE
from ..ledger.arrow_files import PARQUET
from ..ledger.data_splits import SPLITS, TESTING, TRAINING, VALIDATION, split_of
from ..ledger.image_tables import METADATA
from ..ledger.sealed import canonical
from ..storage import cache
from ..storage.cached_folder import cached_folder
from ..storage.files import require_room
from ..storage.place import refusing
from ..storage.reader import FileIdentity
from ..storage.regular import reading
from .notices import first_names
from .packed import PackedImage, is_packed, packed_images

FORM = 2
"""Raised when the same files are unpacked to another folder than before."""
MOST_UNPACKED = 16
"""Data shards that are kept, those used last; one that is in use is always kept."""
MOST_GROWTH = 100
"""Times the size of a packed file that its images may take; a file made to fill disks takes more.
One image may always be as large as an image can be."""
NO_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL)
"""What the system says of names that are too long, or that need a file to be a folder."""
LEADING = re.compile(rf"(?:{'|'.join(sorted(SPLITS))})(?:[-._0-9].*)?", re.IGNORECASE)
"""The pattern of names that begin with a split, such as `train-00000-of-00002.parquet`."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The folder of unpacked images, and where they are from."""

    folder: Path
    packs: tuple[str, ...]
    """The packed files, by name."""
    left_out: tuple[str, ...]
    """The packed files of other splits than the one that is meant."""
    tables: tuple[str, ...]
    """Parquet files about tar files of the same name, which are not read."""


def unpacked(
    folder: Path, files: Mapping[str, Path], *, for_validation: bool = False
) -> Unpacked | None:
    """The images that files of a data shard pack; None if no file does.

    Of several splits, it is the one for training, or with `for_validation` that for validation or
    else for testing.
    Raises InputError for a file that cannot be read, or for splits without one for training,
    OutputError if the cache cannot be written, LimitError without a cache or without pyarrow.
    """
    packs = sorted(name for name in files if is_packed(name))
    if not packs:
        return None
    # img2dataset writes a table about each tar file beside it
    tables = [name for name in packs if f"{name.removesuffix(PARQUET)}.tar" in packs]
    packs = [name for name in packs if name not in tables]
    chosen = _for_validation(packs) if for_validation else _of_training(folder, packs)
    root = cache.user_cache()
    if root is None:
        what = "packed images are unpacked in the cache folder of the user, who has none"
        raise LimitError(what, advice="set XDG_CACHE_HOME, or unpack them")
    with_times = [[name, *_identity(files[name])] for name in chosen]
    key = text_digest(canonical([FORM, with_times])).removeprefix(PREFIX)[:32]
    place = cached_folder(
        root / "data" / key,
        "images",
        lambda made: _unpack({name: files[name] for name in chosen}, made),
        MOST_UNPACKED,
    )
    left_out = tuple(name for name in packs if name not in chosen)
    return Unpacked(place, tuple(chosen), left_out, tuple(tables))


def _identity(path: Path) -> FileIdentity:
    with reading(str(path), path):
        return FileIdentity.of(path.stat())


def _of_training(folder: Path, packs: list[str]) -> list[str]:
    """The files of the split for training, or all if there is one split."""
    splits = {name: _split_of(name) for name in packs}
    found = set(splits.values())
    chosen = [name for name, split in splits.items() if split in TRAINING]
    # a word in one name, as in steam_train.tar beside car.tar, may be of what the images show
    if chosen and (found - TRAINING != {""} or any(map(_begins_with_split, chosen))):
        return chosen
    if chosen or found == {""}:
        return packs
    what = f"has packed images of splits for testing only: {first_names(packs)}"
    raise InputError(what, path=folder, advice="give those for training, or rename them")


def _for_validation(packs: list[str]) -> list[str]:
    """The files of the split for validation, or else for testing, or all without one."""
    splits = {name: _split_of(name) for name in packs}
    for kind in (VALIDATION, TESTING):
        if chosen := [name for name, split in splits.items() if split in kind]:
            return chosen
    return packs


def _begins_with_split(name: str) -> bool:
    """Whether the name of a file, or of a folder that it is in, begins with that of a split."""
    return any(LEADING.fullmatch(part) for part in PurePosixPath(name).parts)


def _split_of(name: str) -> str:
    """The split that a file is of, by its own name or the folder that it is in; else empty."""
    for part in reversed(PurePosixPath(name).parts):
        if split := split_of(part):
            return split
    return ""


def _unpack(packs: Mapping[str, Path], place: Path) -> None:
    """Write the images of packed files to a new folder, with a table that describes them."""
    before = {path: _identity(path) for path in packs.values()}
    with refusing(place):
        place.mkdir(mode=0o700)
        require_room(place, sum(each.size for each in before.values()))
    names: set[str] = set()
    with refusing(place), (place / METADATA).open("w", encoding="utf-8") as table:
        for pack, path in packs.items():
            room = MOST_GROWTH * before[path].size + LARGEST_FILE
            for image in packed_images(pack, path):
                name = _free_name(image, pack, names)
                names.add(name)
                table.write(json.dumps({**image.fields, "file_name": name}) + "\n")
                room -= len(image.data or b"")
                if room < 0:
                    what = f"would be unpacked to more than {MOST_GROWTH} times its size"
                    raise InputError(what, path=path)
                _write(image, place / name, path)
    for path, identity in before.items():
        if _identity(path) != identity:
            raise OutputError("changed while it was unpacked", path=path, advice="run it again")
    with refusing(place):
        # else a crash of the system may leave empty files under their names
        os.sync()


def _write(image: PackedImage, target: Path, pack: Path) -> None:
    """Write an image to its place; InputError for a name that no file can have there."""
    if image.data is None:
        return
    if len(image.data) > LARGEST_FILE:
        what = f"has an image of more than {LARGEST_FILE} bytes: {shortened(image.name)}"
        raise InputError(what, path=pack)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image.data)
    except OSError as error:
        if error.errno not in NO_NAMES:
            raise
        what = f"has a name that cannot be unpacked: {shortened(image.name)}: {error.strerror}"
        raise InputError(what, path=pack) from None


def _free_name(image: PackedImage, pack: str, names: set[str]) -> str:
    """The image's name, with that of its file before it if another image has it."""
    path = PurePosixPath(image.name)
    name = image.name
    if name in names:
        name = (
            path.parent / f"{PurePosixPath(pack).name.partition('.')[0]}-{path.name}"
        ).as_posix()
    if name in names:
        what = f"has several images of one name: {shortened(image.name)}"
        raise InputError(what, path=pack)
    return name
