"""Files on servers whose ranges are kept on this disk, once they were read.

Rule 1: ranges are kept by the version of their file; a file that names none is not kept.
Rule 2: only what is missing is read from the server, and just that is kept.
Rule 3: the server is asked whether a file has changed; a range that it sends is of its version.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from threading import Lock

from blake3 import blake3

from ...storage.elsewhere import FileElsewhere
from .blocks import Span
from .buckets import StoredObject
from .range_cache import RangeCache
from .s3_objects import S3Object
from .web import WebFile


class CachedFile:
    """A file elsewhere, whose ranges are read from a cache where it has them."""

    def __init__(self, file: FileElsewhere, name: str, cache: RangeCache) -> None:
        self._file = file
        self._name = name
        self._cache = cache
        self._spans: list[Span] | None = None
        """The ranges that the cache has, sorted; none overlaps another."""
        self._lock = Lock()

    @property
    def address(self) -> str:
        """Its address in messages, without anything secret."""
        return self._file.address

    @property
    def hint(self) -> str:
        """Its address in ledgers."""
        return self._file.hint

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._file.size

    def is_unchanged(self) -> bool:
        """Whether the server still has this version; InputError if it does not answer."""
        return self._file.is_unchanged()

    def read(self, start: int, stop: int) -> bytes | bytearray:
        """The bytes of a range; InputError if it cannot be read, OutputError if it has changed."""
        parts: list[bytes | bytearray] = []
        while start < stop:
            span, is_kept = self._next(start, stop)
            data = self._cache.get(self._name, span) if is_kept else self._fetch(span)
            if data is None:
                self._forget(span)
                continue
            first = start - span[0]
            parts.append(data[first : first + stop - start])
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fetch(self, span: Span) -> bytes | bytearray:
        data = self._file.read(*span)
        if self._cache.is_full:
            return data
        if self._cache.put(self._name, span, data):
            with self._lock:
                spans = self._known()
                place = bisect_right(spans, span)
                around = spans[max(0, place - 1) : place + 1]
                # another thread may have read the same
                if all(each[1] <= span[0] or span[1] <= each[0] for each in around):
                    insort(spans, span)
        return data

    def _next(self, start: int, stop: int) -> tuple[Span, bool]:
        """The range that has byte `start`, and True; or what is missing from there, and False."""
        with self._lock:
            spans = self._known()
            place = bisect_right(spans, (start, self.size))
            if place and start < spans[place - 1][1]:
                return spans[place - 1], True
            end = spans[place][0] if place < len(spans) else stop
            return (start, min(end, stop)), False

    def _forget(self, span: Span) -> None:
        with self._lock:
            if span in self._known():
                self._known().remove(span)

    def _known(self) -> list[Span]:
        if self._spans is None:
            self._spans = _apart(self._cache.spans(self._name), self.size)
        return self._spans


def _apart(spans: Iterable[Span], size: int) -> list[Span]:
    """The spans of a file of this size, sorted; none that overlaps one before."""
    found: list[Span] = []
    for start, stop in sorted(spans):
        if (found[-1][1] if found else 0) <= start < stop <= size:
            found.append((start, stop))
    return found


def with_cache(file: FileElsewhere, cache: RangeCache | None) -> FileElsewhere:
    """The file, read by way of a cache if there is one, and the file names its version."""
    version = None if cache is None else _version_of(file)
    if cache is None or version is None:
        return file
    return CachedFile(file, blake3("\0".join(version).encode()).hexdigest(), cache)


def _version_of(file: FileElsewhere) -> tuple[str, ...] | None:
    """What identifies the bytes of a file; None if its server names no version."""
    match file:
        case WebFile(version=None):
            # the address has the commit
            return ("hub", file.url, str(file.size))
        case WebFile(version=(str() as tag, *_)) if tag and not tag.upper().startswith("W/"):
            return ("web", _without_user(file.url), str(file.size), tag)
        case S3Object(version=(_, *_)) | StoredObject(version=(_, *_)):
            return (file.hint, str(file.size), *file.version)
        case _:
            return None


def _without_user(url: str) -> str:
    """A web address without user and password; its query stays, which may choose the file."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
