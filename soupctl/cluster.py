"""Workers of a Ray cluster, which call functions; nothing else in soupctl knows Ray.

Rule 1: a call may be made again, on another worker, if its worker dies; so it has to leave nothing
that a second one minds.
Rule 2: a worker has the version of soupctl that the caller has, and sees the same folders.
Rule 3: what a worker raises is raised here; what Ray prints is shown nowhere.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, TypeVar

from . import __version__
from .errors import LimitError, MismatchError, UsageError
from .frozen import frozen
from .pattern import pattern

Argument = TypeVar("Argument")
Result = TypeVar("Result")

RUNNING, LOCAL = "auto", "local"
"""Stand for the cluster that runs on this machine, and for workers that end with the command."""
ADDRESS = pattern(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,4})")
VARIABLE = "RAY_ADDRESS"
"""The environment variable in which Ray's own commands expect the address of a cluster."""
ANSWER = 10.0
"""Seconds in which a cluster must answer."""
RETRIES = 3
"""How often a call is made again whose worker has died."""
POLL = 0.5
"""Seconds after which a signal to this process is noticed at the latest."""
MOMENT = 0.2
"""Seconds in which a handler of signals raises again."""
STORE = 80 << 20
"""Bytes of shared memory for results, of which there are few and small ones."""
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_TQDM_PATCH_PRINT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables with which Ray neither warns, nor logs, nor reports its use."""


@frozen
class CallNeeds:
    """What a call takes of its machine."""

    cores: int = 1
    devices: int = 0
    is_fresh: bool = False
    """Whether the call gets a process that has made no other call."""


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
        yield from _called(function, arguments, name, needs)


@contextmanager
def open_workers(address: str) -> Iterator[Workers]:
    """A connection to the cluster at an address: `host:port`, `auto` or `local`.

    A connection that this process has already is used, and stays. Raises LimitError if Ray is not
    installed or nothing answers, UsageError for what is no address.
    """
    require_reachable(address)
    address = _resolved(address)
    ray = _library()
    is_open = ray.is_initialized()
    try:
        if not is_open:
            with _own_handlers(), _own_streams(), _no_messages():
                _connect(ray, address)
        yield _workers(ray)
    finally:
        if not is_open:
            ray.shutdown()


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Set the handlers of signals again that Ray replaces within the block."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def _own_streams() -> Iterator[None]:
    """Keep the streams that Ray wraps within the block, to which it would also write at the end."""
    streams = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        if (colours := sys.modules.get("colorama.initialise")) is not None:
            atexit.unregister(colours.reset_all)


@contextmanager
def _no_messages() -> Iterator[None]:
    """Drop what is written to the standard error within the block: Ray logs attempts to connect."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _workers(ray: Any) -> Workers:
    found = ray.cluster_resources()
    return Workers(max(1, int(found.get("CPU", 1))), int(found.get("GPU", 0)))


def require_address(address: str) -> None:
    """Raise UsageError for a text that is no address, before anything is done."""
    if address not in (RUNNING, LOCAL) and ADDRESS.fullmatch(address) is None:
        what = f"--ray {address[:60]!r} is not the address of a cluster"
        raise UsageError(what, advice="such as --ray head:6379, --ray auto or --ray local")


def require_reachable(address: str) -> None:
    """Raise what `open_workers` raises, as far as that shows at once."""
    require_address(address)
    if find_spec("ray") is None:
        what = "--ray needs ray, which is not installed"
        raise LimitError(what, advice="pip install 'soupctl[ray]'")
    if found := ADDRESS.fullmatch(_resolved(address)):
        _require_answer(found[0], found[1].strip("[]"), int(found[2]))


def _resolved(address: str) -> str:
    """The address of a cluster; that in the environment, if there is one, for `auto`."""
    if address == RUNNING:
        address = os.environ.get(VARIABLE, address)
        require_address(address)
    return address


def _library() -> Any:
    """The library, silenced."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray  # noqa: PLC0415

    return ray


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster, or start one on this machine."""
    import logging  # noqa: PLC0415

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": STORE}
        options |= {"_node_ip_address": "127.0.0.1"}
    else:
        options["address"] = address
    try:
        with _interruptible():
            ray.init(**options)
    except ConnectionError:
        raise _no_answer(address) from None
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LimitError(f"the Ray cluster {address} cannot be used: {reason}") from None


def _require_answer(address: str, host: str, port: int) -> None:
    """Raise LimitError unless something listens there: Ray itself would try for minutes."""
    try:
        with socket.create_connection((host, port), ANSWER):
            return
    except (OSError, OverflowError, UnicodeError):
        raise _no_answer(address) from None


def _no_answer(address: str) -> LimitError:
    if address == RUNNING:
        what = "no Ray cluster runs on this machine"
        return LimitError(what, advice="ray start --head starts one; or --ray local")
    advice = "see ray status there, and whether it needs a token"
    return LimitError(f"no Ray cluster answers at {address}", advice=advice)


def _called(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    name: Callable[[Argument], str],
    needs: CallNeeds,
) -> Iterator[tuple[int, Result]]:
    ray = _library()
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
            with _interruptible():
                done, _ = ray.wait([*running], timeout=POLL)
                found = [(running.pop(each), each) for each in done]
            for place, each in found:
                yield place, _result(ray, each, name(arguments[place]))
    finally:
        _cancel(ray, [*running])


@contextmanager
def _interruptible() -> Iterator[None]:
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


def _require_room(ray: Any, needs: CallNeeds) -> None:
    """Raise LimitError for a call that no machine can ever make."""
    machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    if not any(
        each.get("CPU", 0) >= needs.cores and each.get("GPU", 0) >= needs.devices
        for each in machines
    ):
        most = int(max((each.get("CPU", 0) for each in machines), default=0))
        what = f"no machine of the Ray cluster has {needs.cores} cores: the largest has {most}"
        raise LimitError(what, advice="lower --threads, or OMP_NUM_THREADS of finetune")


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
