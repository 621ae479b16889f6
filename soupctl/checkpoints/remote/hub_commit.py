"""A commit to a repository of the Hugging Face Hub: all of its files, or none.

Rule 1: the branch is looked up first, and the commit fails if it has moved by then.
Rule 2: credentials are found by the library, in its own places.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from hashlib import sha1
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from ...errors import OutputError, UsageError
from ...frozen import frozen
from ...storage.place import FORCE
from .address import HubAddress
from .attempts import (
    SHORT,
    Purpose,
    RefusedError,
    ShortAnswerError,
    attempted,
    require_extra,
    status_of,
)
from .hub_files import COMMIT, MALFORMED, repository_at, require_online

PUSHING = Purpose(
    "written", OutputError, "there is no such repository or branch", "upload it with `hf upload`"
)
MOVED = 412
"""The status that says that a branch is at another commit."""
UNKNOWN = 404
REFUSED_CARD = "Invalid metadata in README.md"
"""How the library begins to tell that the hub refuses a model card."""
LARGEST_SMALL = 20_000_000
"""Bytes of a file that a repository may hold as it is; larger ones it knows by their SHA-256."""


class MovedError(Exception):
    """The branch has another commit than the one that was looked up."""


@frozen
class BranchTip:
    """What a branch of a repository has before files are added to it."""

    commit: str
    replaced: tuple[str, ...]
    """Those of the files that it has already."""


def look_up(place: HubAddress, names: Collection[str], *, replace: bool) -> BranchTip:
    """The branch that files of these names are to be added to.

    Raises OutputError if the repository cannot be written to, or if one of them exists and
    `replace` is false.
    """
    require_extra("hf", "huggingface_hub")
    require_online(place, PUSHING)
    if place.revision is not None and COMMIT.fullmatch(place.revision):
        what = "names a commit, and files are added to a branch"
        raise UsageError(what, path=place.shown, advice="leave it out, or name a branch")
    commit, present = attempted(place.shown, lambda: repository_at(place), PUSHING)
    taken = tuple(sorted(name for name in names if name in present))
    if taken and not replace:
        shown = HubAddress(place.repository, place.revision, taken[0]).shown
        raise OutputError("exists", path=shown, advice=FORCE)
    return BranchTip(commit, taken)


def require_access(place: HubAddress) -> None:
    """Raise OutputError for a repository that may be read, but not written to."""
    from huggingface_hub import HfApi

    def ask() -> None:
        try:
            HfApi().auth_check(place.repository, write=True)
        except OSError as error:
            # not every server tells
            if status_of(error) != UNKNOWN:
                raise

    attempted(place.shown, lambda: _sound(ask), PUSHING)


def commit_files(
    place: HubAddress,
    files: Mapping[str, Path | bytes],
    title: str,
    *,
    replace: bool,
    check: Callable[[], None],
    shows_progress: bool = False,
) -> str:
    """Add files to a branch in one commit, which is made after `check`; returns the new commit.

    Their names are those in the repository. Raises the errors of `look_up`, and OutputError for a
    branch that moves meanwhile.
    """
    tip = look_up(place, files, replace=replace)
    with warnings.catch_warnings():
        # what the library thinks of a model card is no failure
        warnings.simplefilter("ignore")
        try:
            return _committed(place, files, title, tip.commit, check, shows_progress)
        except (OutputError, OSError):
            # a file of the soup that is gone may be why
            check()
            raise


def _committed(
    place: HubAddress,
    files: Mapping[str, Path | bytes],
    title: str,
    parent: str,
    check: Callable[[], None],
    shows_progress: bool,
) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars, logging

    (enable_progress_bars if shows_progress else disable_progress_bars)()
    logging.set_verbosity_error()
    api, where = HfApi(), {"repo_id": place.repository, "revision": place.revision}
    files = _with_small_ones_read(files)
    uploaded = _uploaded(api, place, files)
    small = _blob_ids(files)
    check()

    def commit() -> str:
        try:
            made = api.create_commit(
                operations=uploaded, commit_message=title, parent_commit=parent, **where
            )
        except OSError as error:
            # an answer that was lost may have been that it is made
            if (found := _made(api, where, uploaded, small)) is not None:
                return found
            if status_of(error) == MOVED:
                raise MovedError from None
            raise
        return str(made.oid)

    try:
        new: str = attempted(place.shown, lambda: _sound(commit), PUSHING)
    except MovedError:
        what = "has moved to another commit meanwhile"
        raise OutputError(what, path=place.shown, advice="try again") from None
    return new


def _uploaded(api: Any, place: HubAddress, files: Mapping[str, Path | bytes]) -> list[Any]:
    """What a commit adds, its large files sent."""
    from huggingface_hub import CommitOperationAdd

    def additions() -> list[Any]:
        # it digests the files
        return [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]

    made: list[Any] = attempted(place.shown, lambda: _sound(additions), PUSHING)
    where = {"repo_id": place.repository, "revision": place.revision}
    attempted(
        place.shown,
        lambda: _sound(lambda: api.preupload_lfs_files(additions=made, **where)),
        PUSHING,
    )
    return made


def _sound(request: Callable[[], Any]) -> Any:
    """What a call of the library returns; RefusedError for an answer that it cannot use."""
    try:
        return request()
    except OSError:
        # a failed request, which may be an error of values as well
        raise
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        if isinstance(error, JSONDecodeError):
            # the page of a server that fails
            raise ShortAnswerError(SHORT) from error
        if str(error).startswith(REFUSED_CARD):
            raise RefusedError("the hub refuses what README.md says at its beginning") from error
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise RefusedError(MALFORMED) from error


def _made(
    api: Any, where: Mapping[str, str | None], uploaded: list[Any], small: Mapping[str, str]
) -> str | None:
    """The commit that a branch is at, if it has all these files; None for any other."""
    try:
        info = api.model_info(files_metadata=True, **where)
    except OSError:
        return None
    there = {each.rfilename: each for each in info.siblings or ()}

    def is_there(each: Any) -> bool:
        found = there.get(each.path_in_repo)
        if found is None or found.lfs is None:
            return found is not None and found.blob_id == small.get(each.path_in_repo)
        return bool(found.lfs.sha256 == each.upload_info.sha256.hex())

    return str(info.sha) if all(map(is_there, uploaded)) else None


def _with_small_ones_read(files: Mapping[str, Path | bytes]) -> dict[str, Path | bytes]:
    """The files, small ones as bytes: the library would read them again for each attempt."""
    return {
        name: content
        if isinstance(content, bytes) or content.stat().st_size > LARGEST_SMALL
        else content.read_bytes()
        for name, content in files.items()
    }


def _blob_ids(files: Mapping[str, Path | bytes]) -> dict[str, str]:
    """What git calls the contents of the small files, by their names in the repository."""
    return {
        name: sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        for name, data in files.items()
        if isinstance(data, bytes)
    }
