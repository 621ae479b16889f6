"""Requests to servers: what is tried again, and what a failure means.

Rule 1: a fault that may pass is tried again after a wait that doubles, or that the server names; a
refusal is final.
Rule 2: messages name the address as it may be shown, and nothing of the library's own text, which
may hold a signed address.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import uniform
from typing import Any, TypeVar

from ...errors import InputError, LimitError, OutputError
from ...frozen import frozen
from .waits import pause, pause_as_told, told_wait

T = TypeVar("T")


@frozen
class Purpose:
    """What requests are made for, and how their failures are told."""

    done: str
    error: type[InputError | OutputError]
    absent: str
    """What a missing place means."""
    instead: str
    """The advice where no other attempt would help."""


READING = Purpose("read", InputError, "there is no such file", "download it, and name the copy")
WRITING = Purpose("written", OutputError, "there is no such bucket", "make a file, and upload it")

ATTEMPTS = 5
WAIT = 0.25
"""Seconds before the second attempt, about; each later wait is twice as long."""
PATIENCE = 600.0
"""Seconds in all that a request waits because servers say so, as when a limit is reached."""
LONGEST = 300.0
"""Seconds that a request may take with its whole answer, however steadily bytes arrive."""
LIBRARIES = {
    "aiohttp": "ClientError",
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
    "httpx2": "HTTPError",
}
"""The ancestor of the errors of each library that makes requests, by the library's module."""
SHORT = "sent other bytes than were asked for"


class ShortAnswerError(OSError):
    """An answer with other bytes than were asked for."""


class RefusedError(Exception):
    """An answer that no other attempt would make usable; its text says why."""


class ChangedError(Exception):
    """The server has another version of a file than the one that was opened."""


def too_slow() -> RefusedError:
    """The error for a request that takes longer than `LONGEST`."""
    return RefusedError(f"the server takes longer than {LONGEST:g} seconds")


def attempted(label: str, request: Callable[[], T], purpose: Purpose = READING) -> T:
    """The answer to a request about `label`, made again after faults that may pass.

    Raises the purpose's error for an absent or forbidden place, or a server that keeps failing,
    OutputError for a file that has changed.
    """
    wait, patience = WAIT, PATIENCE
    for left in reversed(range(ATTEMPTS)):
        try:
            return request()
        except ChangedError:
            raise OutputError("changed while it was read", path=label) from None
        except RefusedError as error:
            what = f"cannot be {purpose.done}: {error}"
            raise purpose.error(what, path=label, advice=purpose.instead) from None
        except faults() as error:
            final = _refusal(error, label, purpose)
            if final is not None:
                raise final from None
            if not left:
                what = f"cannot be {purpose.done}: {_reason(error)}, {ATTEMPTS} times"
                raise purpose.error(what, path=label, advice="try again later") from None
            told = told_wait(status_of(error), _answer_of(error))
            if told is not None and told > patience:
                what = f"cannot be {purpose.done}: the server allows no requests for {told:.0f} s"
                raise purpose.error(what, path=label, advice="try again later") from None
        if told is None:
            pause(wait * uniform(0.5, 1.5))  # noqa: S311
        else:
            patience -= told
            pause_as_told(max(told, wait), label)
        wait *= 2
    raise AssertionError


def faults() -> tuple[type[Exception], ...]:
    """The errors of the network and of its libraries."""
    found: list[type[Exception]] = [OSError, EOFError]
    for library, name in LIBRARIES.items():
        # one that is not loaded has raised nothing
        if library in sys.modules:
            found.append(getattr(sys.modules[library], name))
    return tuple(found)


def _refusal(error: Exception, label: str, purpose: Purpose) -> InputError | OutputError | None:
    """The error for a request that need not be made again; None for a fault that may pass."""
    status, advice = status_of(error), None
    if status in (401, 403) or isinstance(error, PermissionError):
        why = "access is refused"
        advice = "log in with the tools of its library, and ask for access where it is gated"
    elif "Credential" in type(error).__name__:
        why, advice = "no credentials are found", "log in with the tools of its library"
    elif "Validation" in type(error).__name__:
        why = "its bucket cannot have this name"
    elif status in (404, 410) or isinstance(error, FileNotFoundError):
        why = purpose.absent
    elif status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        why = f"the server answers {status}"
    else:
        return None
    return purpose.error(f"cannot be {purpose.done}: {why}", path=label, advice=advice)


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error, or its cause, is about; None if there is none."""
    answer = _answer_of(error)
    status = getattr(answer, "status_code", None)
    if status is None and isinstance(answer, dict):
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _answer_of(error: Exception) -> Any:
    """The answer that an error, or its cause, is about; None if there is none."""
    return getattr(error, "response", getattr(error.__cause__, "response", None))


def _reason(error: Exception) -> str:
    status = status_of(error)
    if status is not None:
        return f"the server answers {status}"
    if isinstance(error, ShortAnswerError):
        return f"the server {SHORT}"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "the server does not answer in time"
    return "the connection fails"


def require_extra(scheme: str, package: str) -> None:
    """Raise LimitError if the package that reads addresses of a scheme is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        what = f"{scheme}:// needs a package that is not installed: {package}"
        raise LimitError(what, advice="pip install 'soupctl[remote]'")
