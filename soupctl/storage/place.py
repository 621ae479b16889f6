"""The destination of an output: a name in an open folder.

Rule 1: a target that is a link stands for the file that it leads to.
Rule 2: every failure of the system is an OutputError that names the target.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import OutputError
from ..frozen import frozen
from .descriptors import refusing_too_many

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FORCE = "-f replaces it"
SCHEMES = ("hf", "s3", "gs", "https", "http")


@frozen
class Place:
    """The destination of an output: an open folder and a name in it."""

    path: Path
    fd: int
    """The descriptor of the open folder."""

    @property
    def name(self) -> str:
        """Name in that folder."""
        return self.path.name

    def named(self, name: str) -> Place:
        """Another name in the same folder."""
        return replace(self, path=self.path.with_name(name))

    def state(self) -> os.stat_result | None:
        """The state of the entry itself, without following links; None if it does not exist."""
        try:
            return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def require_free(self, target: Path, replace: bool) -> int | None:
        """Permission bits of the regular file to replace; None if the name is free.

        Raises OutputError for an entry of another kind, and for any entry without `replace`.
        """
        state = self.state()
        if state is None:
            return None
        if stat.S_ISDIR(state.st_mode):
            raise OutputError("is a folder", path=target)
        if not stat.S_ISREG(state.st_mode):
            raise OutputError("is not a regular file", path=target)
        if not replace:
            raise OutputError("exists", path=target, advice=FORCE)
        return permissions(state)

    def require_free_folder(
        self, target: Path, replace: bool, may_replace: Callable[[Path], bool]
    ) -> int | None:
        """Permission bits of the folder to replace; None if the name is free.

        Raises OutputError for an entry of another kind, for a folder whose path `may_replace` does
        not allow, and for any entry without `replace`.
        """
        state = self.state()
        if state is None:
            return None
        if not stat.S_ISDIR(state.st_mode):
            raise OutputError("exists and is not a folder", path=target)
        if not replace:
            raise OutputError("exists", path=target, advice=FORCE)
        if not may_replace(self.path):
            problem = "is a folder that soupctl did not write, and is not replaced"
            raise OutputError(problem, path=target)
        return permissions(state)


def permissions(state: os.stat_result) -> int:
    """The nine permission bits."""
    return stat.S_IMODE(state.st_mode) & 0o777


@contextmanager
def place_of(target: Path) -> Iterator[Place]:
    """The place of `target`, while the block lasts; OutputError if its folder is missing."""
    if "\0" in str(target):
        raise OutputError("its name holds a null character", path=target)
    final = Path(os.path.realpath(target)) if target.is_symlink() else target
    if final.name in ("", ".."):
        raise OutputError("is a folder", path=target)
    try:
        fd = os.open(final.parent, FOLDER)
    except FileNotFoundError:
        if str(target).partition(":/")[0].lower() in SCHEMES:
            problem = "is an address, and this is written to this disk only"
            raise OutputError(problem, path=target, advice="name a file, and upload it") from None
        problem = f"the folder {final.parent} does not exist"
        raise OutputError(problem, path=target, advice="create it first") from None
    try:
        yield Place(final, fd)
    finally:
        os.close(fd)


@contextmanager
def refusing(target: Path) -> Iterator[None]:
    """Turn failures of the system inside the block into OutputErrors about `target`."""
    try:
        with refusing_too_many():
            yield
    except BrokenPipeError:
        # the error comes not from a file, but from standard output, whose reader has closed it
        raise
    except OSError as error:
        if error.errno is None:
            # raised by a library, not by the system
            raise
        problem = f"cannot be written: {error.strerror or error}"
        raise OutputError(problem, path=target) from error


@contextmanager
def refusing_existing(target: Path) -> Iterator[None]:
    """Turn FileExistsError into an OutputError: the name was free when the work began."""
    try:
        yield
    except FileExistsError as error:
        problem = "was created by another process meanwhile"
        raise OutputError(problem, path=target, advice=FORCE) from error


def sync_folder(fd: int) -> None:
    """Sync an open folder, where the file system supports it."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
