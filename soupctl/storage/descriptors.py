"""The limit on open files, and how to work with few of them.

Rule 1: the soft limit is raised as far as needed, at most to the hard limit.
Rule 2: if even that is too low, files are reopened for each read and write.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import BoundedSemaphore

from ..errors import LimitError

MOST_IN_TURN = 12
IN_TURN = BoundedSemaphore(MOST_IN_TURN)
"""Files that all threads together may reopen at one time."""
SPARE = MOST_IN_TURN + 12
"""Descriptors that are left free for those files, folders, locks and libraries."""
TOO_MANY = (errno.EMFILE, errno.ENFILE)
LESS_MEMORY = "--max-memory or --threads 1 needs less"


def allow_files(count: int) -> None:
    """Raise the soft limit so that `count` more files may be open, up to the hard limit.

    If that is not enough, files are reopened in turn.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _in_use() + count + SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    # the system may refuse even less than its own hard limit, as macOS does
    with suppress(OSError, ValueError):
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, soft), hard))


def most_files() -> int | None:
    """The hard limit on open files; None for no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def may_stay_open(fd: int) -> bool:
    """Whether enough descriptors are free for a file that was just opened to stay open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # a new descriptor gets the lowest free number, which tells how many are open
    return soft == resource.RLIM_INFINITY or fd < soft - SPARE


@contextmanager
def refusing_too_many() -> Iterator[None]:
    """Turn the failure to open one file more, and that for want of memory, into a LimitError."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise LimitError("out of memory", advice=LESS_MEMORY) from None
        if error.errno not in TOO_MANY:
            raise
        raise LimitError("too many open files", advice="see ulimit -n") from None


def _in_use() -> int:
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))
    return SPARE
