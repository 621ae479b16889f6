"""The library Ray, silenced, and this process kept as it is while Ray works in it.

Rule 1: Ray sets handlers of signals, wraps streams and logs; each is undone or dropped.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MOMENT = 0.2
"""Seconds in which a handler of signals raises again."""
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # its notes on workers that died, which it would print among the results of the command
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_TQDM_PATCH_PRINT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables with which Ray neither warns, nor logs, nor reports its use."""


def ray_library() -> Any:
    """The library, silenced."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray  # noqa: PLC0415

    return ray


@contextmanager
def own_handlers() -> Iterator[None]:
    """Set the handlers of signals again that Ray replaces within the block."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def own_streams() -> Iterator[None]:
    """Keep the streams that Ray wraps within the block, to which it would also write at the end."""
    streams = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        if (colours := sys.modules.get("colorama.initialise")) is not None:
            atexit.unregister(colours.reset_all)


@contextmanager
def no_messages() -> Iterator[None]:
    """Drop what is written to the standard error within the block: Ray logs attempts to connect."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise what a handler of signals raises: Ray takes it for Ctrl-C, or for a fault of its own.

    The handler of the command line raises again some moments after it.
    """
    try:
        yield
    except KeyboardInterrupt:
        time.sleep(MOMENT)
        raise
    except SystemError as error:
        if error.__context__ is not None:
            raise error.__context__ from None
        raise
