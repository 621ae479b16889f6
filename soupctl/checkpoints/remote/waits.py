"""Waits before a request is made again: as long as the server says, or twice as long as the last.

Rule 1: a wait ends at once where nobody needs the answer any more, as after Ctrl-C.
Rule 2: the user is told of a long wait, once for all requests that wait.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import uniform
from threading import Lock
from typing import Any

from ...workers import require_needed

LOG = logging.getLogger(__name__)
LONG = 10.0
"""Seconds of a wait that the user is told of."""
MOMENT = 0.2
"""Seconds after which it is looked whether the answer is still needed."""
SECONDS = re.compile(r"[0-9]{1,9}")
SPENT = re.compile(r'"[^"]*"((?:\s*;\s*[a-z]+\s*=\s*[^;,]+)*)')
"""Matches an item of `RateLimit`, such as `"resolvers";r=0;t=55`."""
FIELD = re.compile(r";\s*([a-z]+)\s*=\s*([0-9]{1,9})(?![0-9])")
BUSY = (429, 503)
"""Answers that may say for how long no others are given."""

_TOLD_UNTIL = [0.0]
_LOCK = Lock()


def pause(seconds: float) -> None:
    """Wait; CancelledError if the answer is not needed any more."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        require_needed()
        time.sleep(min(left, MOMENT))


def pause_as_told(seconds: float, label: str) -> None:
    """Wait as long as a server has said, and a little more; the user is told of a long wait."""
    now = time.monotonic()
    with _LOCK:
        is_new = seconds >= LONG and now + seconds > _TOLD_UNTIL[0] + LONG
        if is_new:
            _TOLD_UNTIL[0] = now + seconds
    if is_new:
        shown = label if label.isprintable() else ascii(label)
        LOG.warning(
            "soupctl: %s: the server allows no requests for %.0f s: waiting", shown, seconds
        )
    # not all at the same moment
    pause(seconds + uniform(0.0, 1.0))  # noqa: S311


def told_wait(status: int | None, answer: Any) -> float | None:
    """Seconds for which an answer says that no other is given; None if it does not.

    They are in `Retry-After`, or in `RateLimit` as the hub sends it, where no requests are left.
    """
    if status not in BUSY:
        return None
    headers = getattr(answer, "headers", None)
    if isinstance(answer, dict):
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders")
    get = getattr(headers, "get", lambda _: None)
    told = [*_retry_after(get("retry-after") or ""), *_spent(get("ratelimit") or "")]
    return max(told, default=None)


def _retry_after(text: str) -> Iterator[float]:
    """The seconds, or those until a date; none for another text."""
    text = text.strip()
    if SECONDS.fullmatch(text):
        yield float(text)
        return
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, LookupError, OverflowError):
        return
    # a date without a zone is in UTC
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    yield max(0.0, (date - datetime.now(UTC)).total_seconds())


def _spent(text: str) -> Iterator[float]:
    """The seconds after which each limit of which nothing is left is counted anew."""
    for item in SPENT.finditer(text):
        fields = dict(FIELD.findall(item[1]))
        if fields.get("r") == "0" and "t" in fields:
            yield float(fields["t"])
