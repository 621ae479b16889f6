"""Unfinished outputs: files and folders without a name yet, or with a random one.

Rule 1: space is reserved before anything is written.
Rule 2: `discard` removes all traces of an unfinished output at any time.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError
from ..format.index import is_inside
from .allocate import allocate, set_mode
from .descriptors import may_stay_open
from .files import free_space, no_room, pieces, too_large, write_at
from .place import FOLDER, Place, permissions, sync_folder
from .renameat import NO_LINKS, exchange, random_name, rename_new
from .written import WrittenFile

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# errors of file systems that do not support the call
UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EISDIR, errno.ENOENT)
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Partial:
    """An unfinished file; `discard` removes it at any time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._fd: int | None = None
        self._name: str | None = None

    def create(self, size: int, mode: int | None) -> int:
        """A descriptor of `size` preallocated bytes of a new file, without a name if possible.

        The file gets the permission bits `mode`, or those that the umask leaves.
        """
        self._fd = open_unnamed(self._place.fd)
        if self._fd is None:
            self._name = random_name()
            self._fd = os.open(self._name, NEW_FILE, 0o666, dir_fd=self._place.fd)
        if mode is not None:
            set_mode(self._fd, mode)
        preallocate(self._fd, size, self._place.path)
        return self._fd

    def sync(self) -> None:
        """Sync the data to disk; an OSError is final."""
        if self._fd is not None:
            os.fsync(self._fd)

    def publish(self, target: str, replace: bool) -> None:
        """Give the file its name in one step; without `replace`, the name must be free.

        Raises FileExistsError if it is not.
        """
        folder = self._place.fd
        named = self._name
        if named is None:
            try:
                if not replace:
                    self._link(target)
                    return
                # recorded first, so that a signal in between cannot leave the link behind
                named = self._name = random_name()
                self._link(named)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                named = self._copy_to_name()
        if replace:
            os.replace(named, target, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            rename_new(folder, named, target)
        self._name = None

    def _copy_to_name(self) -> str:
        """Copy the file to one with a random name, if a file without a name cannot get one."""
        assert self._fd is not None
        unnamed, size = self._fd, os.fstat(self._fd).st_size
        name = self._name = random_name()
        self._fd = os.open(self._name, NEW_FILE, 0o666, dir_fd=self._place.fd)
        try:
            set_mode(self._fd, permissions(os.fstat(unnamed)))
            preallocate(self._fd, size, self._place.path)
            offset = 0
            for piece in pieces(unnamed, size, self._place.path):
                write_at(self._fd, piece, offset)
                offset += len(piece)
            os.fsync(self._fd)
        finally:
            os.close(unnamed)
        return name

    def _link(self, name: str) -> None:
        # with any src_dir_fd, CPython calls linkat(AT_SYMLINK_FOLLOW), which is needed to follow
        # this link
        folder = self._place.fd
        source = f"/proc/self/fd/{self._fd}"
        os.link(source, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)

    def discard(self) -> None:
        """Close the file, and remove it unless it was published."""
        if self._name is not None:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._place.fd)
        if self._fd is not None:
            os.close(self._fd)


def open_unnamed(folder: int) -> int | None:
    """A new file without a name in an open folder; None if the system cannot make or name one."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return None
    try:
        fd = os.open(".", flag | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return None
        raise
    # needed to name the file later, so it is checked before the work
    if os.path.exists(f"/proc/self/fd/{fd}"):
        return fd
    os.close(fd)
    return None


class Staging:
    """An unfinished folder, under a random name next to its target."""

    def __init__(self, place: Place) -> None:
        self.path = place.path.with_name(random_name())
        self._place = place
        self._folders: list[Path] = []
        self._open: set[int] = set()

    def begin(self) -> None:
        """Create the empty folder."""
        self._make_folders(self.path)

    def create(self, name: str, size: int) -> int:
        """A descriptor of `size` preallocated bytes for the new file at the relative path `name`.

        It is closed by `finish`, or with all others at the end.
        """
        if not is_inside(name):
            raise OutputError(f"{name!r} is not a path inside the folder", path=self._place.path)
        file = self.path / name
        self._make_folders(file.parent)
        fd = os.open(file, NEW_FILE, 0o666)
        self._open.add(fd)
        with suppress(FileNotFoundError, NotADirectoryError):
            set_mode(fd, permissions(os.stat(self._place.path / name)))
        preallocate(fd, size, self._place.path / name)
        return fd

    def _make_folders(self, folder: Path) -> None:
        if folder not in self._folders:
            if folder != self.path:
                self._make_folders(folder.parent)
            folder.mkdir()
            self._folders.append(folder)

    def finish(self, fd: int) -> None:
        """Sync a file and close it, so that many small files need not all be open at once."""
        os.fsync(fd)
        self._open.discard(fd)
        os.close(fd)

    def in_turn(self, name: str, fd: int) -> WrittenFile:
        """The new file `name`, closed unless enough descriptors are free for it to stay open."""
        if may_stay_open(fd):
            return WrittenFile(fd)
        self._open.discard(fd)
        os.close(fd)
        return WrittenFile(None, self.path / name)

    def finish_all(self, mode: int | None) -> None:
        """Sync all files and folders; the folder itself gets the permission bits `mode`."""
        for fd in sorted(self._open):
            self.finish(fd)
        if mode is not None:
            set_mode(self.path, mode)
        for folder in reversed(self._folders):
            fd = os.open(folder, FOLDER)
            try:
                sync_folder(fd)
            finally:
                os.close(fd)

    def publish(self, target: str) -> None:
        """Give the folder its name in one step; FileExistsError if the name is taken."""
        rename_new(self._place.fd, self.path.name, target)

    def exchange(self, target: str) -> None:
        """Swap names with the folder at `target` in one step; `discard` removes the old one."""
        exchange(self._place.fd, self.path.name, target)

    def discard(self) -> None:
        """Close the files, and remove the folder with the random name: unfinished or replaced."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()
        if os.path.lexists(self.path):
            shutil.rmtree(self.path)


def preallocate(fd: int, size: int, target: str | Path) -> None:
    """Reserve `size` bytes for the file, so that a full disk is an error now, not an hour later.

    Raises OutputError with the bytes that are needed and those that are free.
    """
    try:
        _allocate(fd, size)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise no_room(target, size, free_space(fd) or 0) from error
        if error.errno == errno.EFBIG:
            raise too_large(target, size) from error
        raise


def reserve_again(fd: int, size: int, target: str | Path) -> None:
    """Reserve another number of bytes for a file, whose contents are lost; see `preallocate`."""
    os.ftruncate(fd, 0)
    preallocate(fd, size, target)


def _allocate(fd: int, size: int) -> None:
    state = os.fstatvfs(fd)
    # reserving more than is free would fill the disk for a moment, for all processes; if the file
    # system does not report its free space, the call is made anyway
    if state.f_blocks and size > state.f_bfree * state.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    allocate(fd, size)
