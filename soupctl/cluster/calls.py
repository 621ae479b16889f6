"""Calls of functions by workers, and what becomes of them.

Rule 1: a call may be made again, on another worker, if its worker dies; so it has to leave nothing
that a second one minds.
Rule 2: a worker has the version of soupctl that the caller has, and sees the same folders.
Rule 3: what a worker raises is raised here; what Ray prints is shown nowhere.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from .. import __version__
from ..errors import LimitError, MismatchError
from ..frozen import frozen
from .address import ANSWER
from .library import interruptible, ray_library

Argument = TypeVar("Argument")
Result = TypeVar("Result")

RETRIES = 3
"""How often a call is made again whose worker has died."""
POLL = 0.5
"""Seconds after which a signal to this process is noticed at the latest."""


@frozen
class CallNeeds:
    """What a call takes of its machine."""

    cores: int = 1
    devices: int = 0
    is_fresh: bool = False
    """Whether the call gets a process that has made no other call."""


def called(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    name: Callable[[Argument], str],
    needs: CallNeeds,
) -> Iterator[tuple[int, Result]]:
    """The place of each argument and the result of `function` for it; see `Workers.call`."""
    ray = ray_library()
    remote = ray.remote(
        num_cpus=needs.cores,
        num_gpus=needs.devices,
        max_retries=RETRIES,
        max_calls=1 if needs.is_fresh else 0,
    )(_answer)
    _require_room(ray, needs)
    folder = os.getcwd()  # noqa: PTH109
    running = {
        remote.remote(__version__, folder, pickle.dumps((function, each))): place
        for place, each in enumerate(arguments)
    }
    try:
        while running:
            with interruptible():
                done, _ = ray.wait([*running], timeout=POLL)
                found = [(running.pop(each), each) for each in done]
            for place, each in found:
                yield place, _result(ray, each, name(arguments[place]))
    finally:
        _cancel(ray, [*running])


def _require_room(ray: Any, needs: CallNeeds) -> None:
    """Raise LimitError for a call that no machine can ever make."""
    machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    if not any(
        each.get("CPU", 0) >= needs.cores and each.get("GPU", 0) >= needs.devices
        for each in machines
    ):
        # most machines of a cluster are alike
        kinds = sorted({(each.get("CPU", 0), each.get("GPU", 0)) for each in machines})
        found = "; ".join(_resources(*each) for each in kinds)
        wanted = _resources(needs.cores, needs.devices)
        what = f"no machine of the Ray cluster has {wanted}: they have {found or 'nothing'}"
        raise LimitError(what, advice="lower --threads, or OMP_NUM_THREADS of finetune")


def _resources(cores: float, devices: float) -> str:
    """Cores and GPUs in words."""
    words = f"{cores:g} core{'' if cores == 1 else 's'}"
    return f"{words} and {devices:g} GPU{'' if devices == 1 else 's'}" if devices else words


def _result(ray: Any, reference: Any, name: str) -> Any:
    """The result of a call that has ended."""
    try:
        answer = pickle.loads(ray.get(reference))  # noqa: S301
    except ray.exceptions.RayTaskError as error:
        # raised before the call began: the worker has no such function
        what = f"a worker cannot run soupctl {__version__}: {error.cause!r}"
        raise MismatchError(what, advice="install this version on all machines") from None
    except ray.exceptions.RayError as error:
        reason = type(error).__name__.removesuffix("Error")
        what = f"its worker died {1 + RETRIES} times ({reason})"
        raise LimitError(what, path=name, advice="it may need more memory") from None
    if isinstance(answer, BaseException):
        raise answer
    (found,) = answer
    return found


def _cancel(ray: Any, running: Sequence[Any]) -> None:
    """End all calls, and wait until they have ended."""
    for each in running:
        with suppress(ray.exceptions.RayError, ValueError):
            ray.cancel(each, force=True)
    if running:
        ray.wait([*running], num_returns=len(running), timeout=ANSWER)


def _answer(version: str, folder: str, call: bytes) -> bytes:
    """On a worker: the result of a call in a tuple, or what it raised, pickled."""
    try:
        return pickle.dumps((_made(version, folder, call),))
    except Exception as error:  # noqa: BLE001
        return pickle.dumps(error)


def _made(version: str, folder: str, call: bytes) -> object:
    host = socket.gethostname()
    if version != __version__:
        what = f"a worker on {host} has soupctl {__version__}, and this is {version}"
        raise MismatchError(what, advice="install one version on all machines")
    try:
        os.chdir(folder)
    except OSError as error:
        what = f"is not a folder on {host}, where a worker needs it: {error.strerror}"
        raise LimitError(what, path=folder, advice="workers need a shared disk") from None
    function, argument = pickle.loads(call)  # noqa: S301
    return function(argument)
