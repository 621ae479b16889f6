"""Requests to servers: what is tried again, and what a failure means.

Rule 1: a fault that may pass is tried again after a wait that doubles; a refusal is final.
Rule 2: messages name the address as it may be shown, and nothing of the library's own text, which
may hold a signed address.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from random import uniform
from typing import Any, TypeVar

from ...errors import InputError, LimitError, OutputError

T = TypeVar("T")

ATTEMPTS = 5
WAIT = 0.25
"""Seconds before the second attempt, about; each later wait is twice as long."""
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


def attempted(label: str, request: Callable[[], T]) -> T:
    """The answer to a request about `label`, made again after faults that may pass.

    Raises InputError for an absent or forbidden file, or a server that keeps failing, OutputError
    for a file that has changed.
    """
    wait = WAIT
    for left in reversed(range(ATTEMPTS)):
        try:
            return request()
        except ChangedError:
            raise OutputError("changed while it was read", path=label) from None
        except RefusedError as error:
            advice = "download it, and name the copy"
            raise InputError(f"cannot be read: {error}", path=label, advice=advice) from None
        except faults() as error:
            final = _refusal(error, label)
            if final is not None:
                raise final from None
            if not left:
                what = f"cannot be read: {_reason(error)}, {ATTEMPTS} times"
                raise InputError(what, path=label, advice="try again later") from None
        time.sleep(wait * uniform(0.5, 1.5))  # noqa: S311
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


def _refusal(error: Exception, label: str) -> InputError | None:
    """The error for a request that need not be made again; None for a fault that may pass."""
    status = status_of(error)
    if status in (401, 403) or isinstance(error, PermissionError):
        advice = "log in with the tools of its library, and ask for access where it is gated"
        return InputError("cannot be read: access is refused", path=label, advice=advice)
    if "Credential" in type(error).__name__:
        advice = "log in with the tools of its library"
        return InputError("cannot be read: no credentials are found", path=label, advice=advice)
    if "Validation" in type(error).__name__:
        return InputError("cannot be read: its bucket cannot have this name", path=label)
    if status in (404, 410) or isinstance(error, FileNotFoundError):
        return InputError("cannot be read: there is no such file", path=label)
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return InputError(f"cannot be read: the server answers {status}", path=label)
    return None


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error is about; None if there is none."""
    answer: Any = getattr(error, "response", None)
    status = getattr(answer, "status_code", None)
    if status is None and isinstance(answer, dict):
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


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
