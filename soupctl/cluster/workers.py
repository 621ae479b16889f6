"""A connection to the workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import LimitError
from ..frozen import frozen
from .address import LOCAL, ClusterAddress, require_reachable
from .calls import Argument, CallNeeds, Result, called
from .library import interruptible, no_messages, own_handlers, own_streams, ray_library

STORE = 80 << 20
"""Bytes of shared memory for results, of which there are few and small ones."""
LONGEST = 30
"""Bytes of a folder in which the sockets of Ray still have paths of at most 107 bytes."""
USUAL = "/tmp/ray"  # noqa: S108
"""The folder of Ray where there is no `TMPDIR`."""


@frozen
class Workers:
    """A connection to the workers of a cluster."""

    count: int
    """Calls with one core that can be made at once."""
    devices: int
    """The GPUs of all machines."""

    def call(
        self,
        function: Callable[[Argument], Result],
        arguments: Sequence[Argument],
        name: Callable[[Argument], str],
        needs: CallNeeds = CallNeeds(),  # noqa: B008
    ) -> Iterator[tuple[int, Result]]:
        """The place of each argument and the result of `function` for it, as they come.

        `function` is one of a module, `name` what messages call a call. Raises what a call raises,
        MismatchError for another version of soupctl, LimitError for a worker that dies again and
        again, and for more than any machine has. No call is running then.
        """
        yield from called(function, arguments, name, needs)


@contextmanager
def open_workers(address: str) -> Iterator[Workers]:
    """A connection to the cluster at an address: `host:port`, `auto` or `local`.

    A connection that this process has already is used, and stays. Raises LimitError if Ray is not
    installed or nothing answers, UsageError for what is no address.
    """
    found = require_reachable(address)
    ray = ray_library()
    is_open = ray.is_initialized()
    try:
        if not is_open:
            with own_handlers(), own_streams(), no_messages():
                _connect(ray, found)
        yield _workers(ray)
    finally:
        if not is_open:
            ray.shutdown()


def _workers(ray: Any) -> Workers:
    found = ray.cluster_resources()
    return Workers(max(1, int(found.get("CPU", 1))), int(found.get("GPU", 0)))


def _connect(ray: Any, address: ClusterAddress) -> None:
    """Connect to a cluster, or start one on this machine."""
    import logging  # noqa: PLC0415

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address.text == LOCAL:
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": STORE}
        options |= {"_node_ip_address": "127.0.0.1"}
        is_long = len(os.fsencode(os.environ.get("TMPDIR", ""))) > LONGEST
        if is_long and "RAY_TMPDIR" not in os.environ:
            options["_temp_dir"] = USUAL
    else:
        options["address"] = address.text
    try:
        with interruptible():
            ray.init(**options)
    except ConnectionError:
        raise address.no_answer from None
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        what = f"the Ray cluster {address.shown} cannot be used: {reason}"
        raise LimitError(what) from None
