"""Files of web servers and of the hub, read by ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from ...frozen import frozen
from .attempts import SHORT, ChangedError, ShortAnswerError, attempted, require_extra

TIMEOUT = 30.0
"""Seconds that a server may take to answer, or to send the next bytes."""
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
VERSIONS = ("etag", "last-modified")


@cache
def client() -> Any:
    """The connections to all servers, kept open between requests."""
    import httpx2

    return httpx2.Client(follow_redirects=True, timeout=TIMEOUT)


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
    """Sent with each request; may hold secrets."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes of a range; InputError if it cannot be read, OutputError if it has changed."""
        return attempted(self.address, lambda: self._ranged(start, stop))

    def _ranged(self, start: int, stop: int) -> bytes:
        wanted = {**self.headers, "range": f"bytes={start}-{stop - 1}"}
        with client().stream("GET", self.url, headers=wanted) as answer:
            if answer.status_code == 416:
                raise ChangedError
            answer.raise_for_status()
            if not self._is_version(answer):
                raise ChangedError
            if answer.status_code != 206 and (start, stop) != (0, self.size):
                raise OSError("the server sends whole files only")
            parts, size = [], 0
            for part in answer.iter_raw():
                parts.append(part)
                size += len(part)
                if size > stop - start:
                    raise ShortAnswerError(SHORT)
        if size < stop - start:
            raise ShortAnswerError(SHORT)
        return b"".join(parts)

    def _is_version(self, answer: Any) -> bool:
        found = RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is not None and int(found[3]) != self.size:
            return False
        return self.version is None or self.version == _version(answer)

    def is_unchanged(self) -> bool:
        """Whether the server still has this version; InputError if it does not answer."""
        if self.version is None:
            return True
        size, version = attempted(self.address, lambda: _head(self.url, self.headers))
        return (size, version) == (self.size, self.version)


def web_file(url: str, address: str) -> WebFile:
    """The present version of the file at `url`; raises the errors of `attempted`."""
    require_extra("https", "httpx2")
    headers = {"accept-encoding": "identity"}
    size, version = attempted(address, lambda: _head(url, headers))
    return WebFile(url, address, address, size, version, headers)


def _head(url: str, headers: Mapping[str, str]) -> tuple[int, tuple[str | None, ...]]:
    """Size and version of the file at `url`.

    A range of one byte is asked for, because signed addresses allow no HEAD.
    """
    wanted = {**headers, "range": "bytes=0-0"}
    with client().stream("GET", url, headers=wanted) as answer:
        answer.raise_for_status()
        found = RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None:
            raise OSError("the server sends whole files only")
        return int(found[3]), _version(answer)


def _version(answer: Any) -> tuple[str | None, ...]:
    return tuple(answer.headers.get(name) for name in VERSIONS)
