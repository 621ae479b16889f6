"""Files of web servers and of the hub, read by ranges.

Rule 1: an answer counts only if it says that it is the range that was asked for, not encoded.
Rule 2: credentials are sent to the server that an address names, and to no other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from ...errors import UsageError
from ...frozen import frozen
from ...workers import require_needed
from . import attempts
from .attempts import (
    SHORT,
    ChangedError,
    RefusedError,
    ShortAnswerError,
    attempted,
    require_extra,
    too_slow,
)
from .redirects import HubTarget, Lead, is_expired, require_safe

TIMEOUT = 30.0
"""Seconds that a server may take to answer, or to send the next bytes."""
RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
VERSIONS = ("etag", "last-modified")
PLAIN = {"accept-encoding": "identity"}
"""Sent with each request."""


@cache
def client() -> Any:
    """The connections to all servers, kept open between requests."""
    import httpx2

    hooks = {"response": [require_safe]}
    return httpx2.Client(follow_redirects=True, timeout=TIMEOUT, event_hooks=hooks)


@frozen
class WebFile:
    """One version of a file on a web server."""

    url: str
    """Where it is asked for; may hold secrets."""
    address: str
    hint: str
    size: int
    version: tuple[str | None, ...] | None
    """What the server calls its version; None where the address names it."""
    headers: Mapping[str, str]
    """Sent with each request to the server that the address names; may hold secrets."""
    target: HubTarget | None = None
    """Where the hub leads to; None for any other server, which is asked each time."""

    def read(self, start: int, stop: int) -> bytearray:
        """The bytes of a range; InputError if it cannot be read, OutputError if it has changed."""
        return attempted(self.address, lambda: self._ranged(start, stop))

    def _ranged(self, start: int, stop: int) -> bytearray:
        if self.target is not None and (lead := self.target.lead) is not None:
            data = self._led(self.target, lead, start, stop)
            if data is not None:
                return data
        wanted = {**self.headers, "range": f"bytes={start}-{stop - 1}"}
        with client().stream("GET", self.url, headers=wanted) as answer:
            _require_sent(answer)
            if self.target is not None:
                self.target.follow(answer)
            return self._received(answer, start, stop)

    def _led(self, target: HubTarget, lead: Lead, start: int, stop: int) -> bytearray | None:
        """The bytes of a range from where the hub led before; None if that address has expired."""
        wanted = {**PLAIN, "range": f"bytes={start}-{stop - 1}"}
        try:
            with client().stream("GET", lead.url, headers=wanted) as answer:
                if not is_expired(answer.status_code):
                    _require_sent(answer)
                    lead.require_same(answer)
                    return self._received(answer, start, stop)
        except Exception:
            # another attempt asks the hub
            target.forget(lead)
            raise
        target.forget(lead)
        return None

    def _received(self, answer: Any, start: int, stop: int) -> bytearray:
        """The bytes of a range, from an answer to a request for it."""
        # some servers send small files as a whole
        is_whole = answer.status_code == 200 and (start, stop) == (0, self.size)
        found = (start, stop - 1, self.size) if is_whole else _range(answer)
        if found[2] != self.size or (self.version and self.version != _version(answer)):
            raise ChangedError
        if found[:2] != (start, stop - 1):
            raise ShortAnswerError(SHORT)
        # one that grows is copied again and again
        data, filled, began = bytearray(stop - start), 0, time.monotonic()
        for part in answer.iter_raw():
            require_needed()
            if time.monotonic() - began > attempts.LONGEST:
                raise too_slow()
            if filled + len(part) > len(data):
                raise ShortAnswerError(SHORT)
            data[filled : filled + len(part)] = part
            filled += len(part)
        if filled < len(data):
            raise ShortAnswerError(SHORT)
        return data

    def is_unchanged(self) -> bool:
        """Whether the server still has this version; InputError if it does not answer."""
        if self.version is None:
            return True
        size, version = attempted(self.address, lambda: _head(self.url, self.headers))
        return (size, version) == (self.size, self.version)


def web_file(url: str, address: str) -> WebFile:
    """The present version of the file at `url`; raises the errors of `attempted`."""
    require_extra("https", "httpx2")
    import httpx2

    try:
        httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        # their texts may quote what is secret
        raise UsageError("is not a valid address", path=address) from None
    size, version = attempted(address, lambda: _head(url, PLAIN))
    return WebFile(url, address, address, size, version, PLAIN)


def _head(url: str, headers: Mapping[str, str]) -> tuple[int, tuple[str | None, ...]]:
    """Size and version of the file at `url`.

    A range of one byte is asked for, because signed addresses allow no HEAD.
    """
    wanted = {**headers, "range": "bytes=0-0"}
    with client().stream("GET", url, headers=wanted) as answer:
        if _is_empty(answer):
            return 0, _version(answer)
        answer.raise_for_status()
        return _range(answer)[2], _version(answer)


def _is_empty(answer: Any) -> bool:
    """Whether an answer to a request for the first byte says that there is none."""
    told = answer.headers.get
    return (answer.status_code, told("content-range")) == (416, "bytes */0") or (
        answer.status_code,
        told("content-length"),
    ) == (200, "0")


def _require_sent(answer: Any) -> None:
    """Raise the error for a refusal; ChangedError where the file has no such range."""
    if answer.status_code == 416:
        raise ChangedError
    answer.raise_for_status()


def _range(answer: Any) -> tuple[int, int, int]:
    """First and last byte of an answer, and the size of the file; RefusedError without them."""
    found = RANGE.fullmatch(answer.headers.get("content-range", ""))
    if found is None or answer.status_code != 206:
        raise RefusedError("the server sends no parts of files")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError("the server sends encoded parts of files")
    first, last, size = map(int, found.groups())
    return first, last, size


def _version(answer: Any) -> tuple[str | None, ...]:
    return tuple(answer.headers.get(name) for name in VERSIONS)
