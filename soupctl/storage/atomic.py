"""Atomic publication of files and folders: an output appears whole, or not at all.

Rule 1: space is reserved first; data is written to a file without a name, or with a random one in
the target's folder, which then gets its own name in one atomic step.
Rule 2: the order is data synced, inputs checked, named, folder synced. A failed sync is final: the
kernel may have dropped the pages, so trying again proves nothing. Inputs are checked last because
syncing can take minutes in which they change.
Rule 3: without `replace` that step fails if another process has created a file of that name
meanwhile; with it, the old output stays until then, and its permission bits are kept.
Rule 4: every failure is an OutputError that names the target, and leaves nothing else behind; if
an old folder cannot be removed after that step, the error says that the output is written, and
where the old folder remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError
from .files import write_at
from .partial import Partial, Staging
from .place import Place, place_of, refusing, refusing_existing, sync_folder

Naming = Callable[[], str]
"""Returns the name of an output from its complete contents."""


def nothing() -> None:
    """A check that passes."""


@contextmanager
def publish_file(
    target: Path,
    size: int,
    *,
    replace: bool,
    check: Callable[[], None] = nothing,
    naming: Naming | None = None,
) -> Iterator[int]:
    """Yield a descriptor of `size` preallocated bytes that becomes `target` on a clean exit.

    `check` is called when all data is on disk, just before the file gets its name; if it raises,
    nothing is published. With `naming`, the file gets the name that it returns at that point, in
    the folder of `target`. Raises OutputError, also in place of an OSError that leaves the block.
    """
    with refusing(target), place_of(target) as place:
        mode = place.require_free(target, replace) if naming is None else None
        partial = Partial(place)
        try:
            yield partial.create(size, mode)
            partial.sync()
            check()
            final = place if naming is None else place.named(naming())
            if naming is not None:
                final.require_free(final.path, replace)
            with refusing_existing(final.path):
                partial.publish(final.name, replace)
            _sync_published(place, final.path)
        finally:
            partial.discard()


def publish_bytes(target: Path, data: bytes, *, replace: bool) -> None:
    """Write `data` as the file `target`, whole or not at all; OutputError as for `publish_file`."""
    with publish_file(target, len(data), replace=replace) as fd:
        write_at(fd, data, 0)


@contextmanager
def publish_folder(
    target: Path,
    *,
    replace: bool,
    may_replace: Callable[[Path], bool],
    check: Callable[[], None] = nothing,
    naming: Naming | None = None,
) -> Iterator[Staging]:
    """Yield a new folder, which becomes `target` with all its files on a clean exit.

    An existing folder is replaced only if `replace` is true and `may_replace` says so of its path.
    `check`, `naming` and the errors are those of `publish_file`.
    """
    with refusing(target), place_of(target) as place:
        mode = None
        if naming is None:
            mode = place.require_free_folder(target, replace, may_replace)
        staging = Staging(place)
        try:
            staging.begin()
            yield staging
            staging.finish_all(mode)
            check()
            final = place if naming is None else place.named(naming())
            with refusing_existing(final.path):
                _name_folder(staging, final, final.path, replace, may_replace)
            _sync_published(place, final.path)
            _remove_replaced(staging, final.path)
        except BaseException:
            # report the first failure, not one of the clean-up
            with suppress(OSError):
                staging.discard()
            raise


def _name_folder(
    staging: Staging,
    place: Place,
    target: Path,
    replace: bool,
    may_replace: Callable[[Path], bool],
) -> None:
    """Give the folder its name, also if another process creates or removes that name meanwhile."""
    while True:
        if place.require_free_folder(target, replace, may_replace) is None:
            try:
                staging.publish(place.name)
            except FileExistsError:
                if not replace:
                    raise
            else:
                return
        else:
            with suppress(FileNotFoundError):
                staging.exchange(place.name)
                return


def _sync_published(place: Place, target: Path) -> None:
    try:
        sync_folder(place.fd)
    except OSError as error:
        problem = f"is written, but might not survive a loss of power: {error.strerror or error}"
        raise OutputError(problem, path=target) from error


def _remove_replaced(staging: Staging, target: Path) -> None:
    try:
        staging.discard()
    except OSError as error:
        problem = f"is written; the old folder remains as {staging.path}: {error.strerror or error}"
        raise OutputError(problem, path=target) from error
