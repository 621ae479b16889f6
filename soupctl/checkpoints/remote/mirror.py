"""A folder on this disk that stands for files on a server, so that they are found like any others.

Rule 1: weights are empty files that stand for those elsewhere; files that configure a model are
copied into it; all others are left out.
Rule 2: an address is looked up once in a process: all reads are of the version found then.
Rule 3: the folder is removed when the process ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Event, Lock

from ...errors import InputError, show_as
from ...format.index import is_inside, parse_index
from ...storage.elsewhere import FileElsewhere, hint_from_now, stand_for
from ...storage.place import refusing
from ...workers import needed_while
from ..config_files import is_copied, is_index, is_weights
from .address import STORES, Address
from .cached_file import with_cache
from .listing import RemoteFiles
from .range_cache import chosen_cache
from .web import web_file

LARGEST_COPY = 100_000_000
AT_ONCE = 8

_MIRRORED: dict[str, tuple[Path, RemoteFiles]] = {}
_LOCK = Lock()


def mirrored(address: Address) -> Path:
    """The path that stands for the file or folder at an address.

    Raises InputError for what is absent or cannot be read, LimitError where a library is missing.
    """
    with _LOCK:
        if address.text not in _MIRRORED:
            listing = _listing(address)
            _MIRRORED[address.text] = (_built(listing), listing)
        return _MIRRORED[address.text][0]


def _listing(address: Address) -> RemoteFiles:
    """The files at an address; those of an index are itself and the shards that it names."""
    listing = _listed(address)
    file, own = listing.files.get(""), PurePosixPath(listing.shown).name
    if file is None or not is_index(own):
        return listing
    if file.size > LARGEST_COPY:
        what = f"has {file.size} bytes, and an index has fewer"
        raise InputError(what, path=listing.shown)
    text = bytes(file.read(0, file.size)) if file.size else b""
    index = parse_index(text, listing.shown)
    return _with_shards(address, listing, own, sorted(set(index.weight_map.values())))


def _listed(address: Address) -> RemoteFiles:
    if address.scheme == "hf":
        from .hub_files import hub_listing

        return hub_listing(address)
    if address.scheme in STORES:
        from .buckets import bucket_listing

        return bucket_listing(address)
    shown = address.shown
    return RemoteFiles(shown, shown, {"": web_file(address.text, shown)})


def _with_shards(
    address: Address, listing: RemoteFiles, own: str, names: Sequence[str]
) -> RemoteFiles:
    """The files of an index named `own`, whose shards of these names lie beside it."""
    if address.scheme == "hf":
        # all of its folder, at the commit that the index is of
        beside = _listed(Address("hf", listing.hint.removeprefix("hf://").rpartition("/")[0]))
        return replace(listing, files=beside.files, cached=beside.cached)
    files = {own: listing.files[""]}
    for name in names:
        shard = _listed(address.beside(name))
        # there may be objects below that name instead
        if "" not in shard.files:
            raise InputError("cannot be read: there is no such file", path=shard.shown)
        files[name] = shard.files[""]
    return replace(listing, files=files)


@cache
def _root() -> Path:
    """The folder of all mirrors of this process."""
    folder = Path("the temporary folder")
    with refusing(folder):
        root = Path(tempfile.mkdtemp(prefix="soupctl-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def _built(listing: RemoteFiles) -> Path:
    """The path that stands for an address, made with all that lies below it."""
    own = PurePosixPath(listing.shown).name
    place, cache = Path(tempfile.mkdtemp(dir=_root())), chosen_cache()
    # an index is a file beside its shards
    is_file = "" in listing.files or is_index(own)
    top, shown = (
        (place, listing.shown.rpartition("/")[0]) if is_file else (place / own, listing.shown)
    )
    show_as(str(top), shown)
    wanted = {
        name or own: with_cache(file, cache)
        for name, file in listing.files.items()
        if _is_wanted(name or own) and is_inside(name or own)
    }
    with refusing(top):
        top.mkdir(exist_ok=True)
        copies = []
        for name, file in wanted.items():
            path, cached = top / name, listing.cached.get(name if name in listing.files else "")
            path.parent.mkdir(parents=True, exist_ok=True)
            hint_from_now(path, file.hint)
            if not is_weights(name):
                copies.append((file, cached, path))
            elif cached is not None:
                os.symlink(os.path.realpath(cached), path)
            else:
                stand_for(path, file)
        _copy_all(copies)
    # a folder of a web server cannot be read, only the index in it
    folder = listing.hint.rpartition("/")[0] if "" in listing.files else listing.hint
    hint_from_now(top, folder)
    return top / own if is_file else top


def _is_wanted(name: str) -> bool:
    return is_weights(name) or is_index(name) or is_copied(name)


def _copy_all(copies: Sequence[tuple[FileElsewhere, Path | None, Path]]) -> None:
    """Copy small files, several at once."""
    stopped = Event()

    def copy(each: tuple[FileElsewhere, Path | None, Path]) -> None:
        with needed_while(lambda: not stopped.is_set()):
            _copy(*each)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="soupctl-copy") as pool:
        try:
            for done in [pool.submit(copy, each) for each in copies]:
                done.result()
        except BaseException:
            stopped.set()
            raise


def _copy(file: FileElsewhere, cached: Path | None, path: Path) -> None:
    """Copy a small file; one that is too large is refused when it is used."""
    if cached is not None:
        shutil.copyfile(cached, path)
        return
    if file.size > LARGEST_COPY:
        stand_for(path, file)
        return
    path.write_bytes(file.read(0, file.size) if file.size else b"")
