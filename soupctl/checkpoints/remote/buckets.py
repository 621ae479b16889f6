"""Objects in S3 and Google Cloud Storage, through fsspec.

Rule 1: credentials and endpoints are found by the libraries, in their own places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InputError
from ...frozen import frozen
from . import attempts
from .address import Address
from .attempts import (
    SHORT,
    ChangedError,
    RefusedError,
    ShortAnswerError,
    attempted,
    faults,
    require_extra,
    too_slow,
)
from .listing import RemoteFiles

MALFORMED = "the server's answer is malformed"
LARGEST = 10**18
"""Bytes; no object has so many."""
LIBRARIES = {"s3": "s3fs", "gs": "gcsfs"}
VERSIONS = ("ETag", "etag", "VersionId", "generation", "LastModified", "mtime")


@frozen
class StoredObject:
    """One version of an object in a bucket."""

    system: Any
    """The file system of fsspec that reads it."""
    name: str
    """Its bucket and key."""
    address: str
    size: int
    version: tuple[str, ...]

    @property
    def hint(self) -> str:
        """Its address; no version can be named in it."""
        return self.address

    def read(self, start: int, stop: int) -> bytes:
        """The bytes of a range; InputError if it cannot be read, OutputError if it has changed."""

        def ranged() -> bytes:
            try:
                data: bytes = in_time(self.system.cat_file, self.name, start=start, end=stop)
            except OSError:
                # a range beyond the end of a shorter object is an error like any other
                if not self._has_version():
                    raise ChangedError from None
                raise
            if len(data) != stop - start:
                if not self._has_version():
                    raise ChangedError
                raise ShortAnswerError(SHORT)
            return data

        return attempted(self.address, ranged)

    def is_unchanged(self) -> bool:
        """Whether the bucket still has this version; InputError if it does not answer."""
        return attempted(self.address, self._has_version)

    def _has_version(self) -> bool:
        self.system.invalidate_cache()
        found = in_time(self.system.info, self.name, refresh=True)
        return (found["size"], _version(found)) == (self.size, self.version)


def file_system(scheme: str) -> Any:
    """What reads and writes the objects of a kind of store; LimitError without its library."""
    require_extra(scheme, LIBRARIES[scheme])
    # imported late, because loading it takes time
    import fsspec

    system = fsspec.filesystem(scheme)
    # requests are made again here, where the waits are known
    system.retries = 1
    return system


def in_time(request: Callable[..., Any], *values: Any, **more: Any) -> Any:
    """The answer to a request of an asynchronous file system; RefusedError if it takes too long."""
    from fsspec.exceptions import FSTimeoutError

    try:
        return request(*values, timeout=attempts.LONGEST, **more)
    except FSTimeoutError:
        raise too_slow() from None


def bucket_listing(address: Address) -> RemoteFiles:
    """The object or the objects at an address; raises the errors of `attempted`."""
    system = file_system(address.scheme)
    shown, start = address.shown, address.rest.rstrip("/")

    def found() -> dict[str, Mapping[str, Any]]:
        try:
            listed: dict[str, Mapping[str, Any]] = in_time(system.find, start, detail=True)
        except faults():
            raise
        except (TypeError, ValueError, LookupError) as error:
            raise RefusedError(MALFORMED) from error
        if not all(_is_sound(info) for info in listed.values()):
            raise RefusedError(MALFORMED)
        return listed

    files = {}
    for name, info in attempted(shown, found).items():
        if info["type"] != "file":
            continue
        below = name.removeprefix(start).lstrip("/")
        place = f"{address.scheme}://{name}"
        files[below] = StoredObject(system, name, place, info["size"], _version(info))
    if not files:
        raise InputError("cannot be read: there is no such file", path=shown)
    return RemoteFiles(shown, shown, files)


def _is_sound(info: Mapping[str, Any]) -> bool:
    """Whether a listing says of a file what it needs."""
    size = info.get("size")
    return info.get("type") != "file" or (type(size) is int and 0 <= size < LARGEST)


def _version(info: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(info[key]) for key in VERSIONS if info.get(key) is not None)
