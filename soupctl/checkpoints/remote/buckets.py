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
MOST_PAGES = 100
"""Pages of a listing, of a thousand objects each."""
VERSIONS = ("ETag", "etag", "generation", "LastModified", "mtime")
"""What both a listing and a look at one object tell of its version."""


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

    def found() -> Mapping[str, Mapping[str, Any]]:
        try:
            listed = _of_s3(system, start) if address.scheme == "s3" else _found(system, start)
        except faults():
            raise
        except (TypeError, ValueError, LookupError) as error:
            raise RefusedError(MALFORMED) from error
        if not all(_is_sound(info) for info in listed.values()):
            raise RefusedError(MALFORMED)
        return listed

    files = {}
    for name, info in attempted(shown, found).items():
        if info["type"] != "file" or name.endswith("/"):
            continue
        below = name.removeprefix(start).lstrip("/")
        place = f"{address.scheme}://{name}"
        files[below] = StoredObject(system, name, place, info["size"], _version(info))
    if not files:
        raise InputError("cannot be read: there is no such file", path=shown)
    return RemoteFiles(shown, shown, files)


def _found(system: Any, start: str) -> Mapping[str, Mapping[str, Any]]:
    listed: dict[str, Mapping[str, Any]] = in_time(system.find, start, detail=True)
    return listed


def _of_s3(system: Any, start: str) -> Mapping[str, Mapping[str, Any]]:
    """The object of that name, or else those below it; RefusedError for too many."""
    bucket, _, key = start.partition("/")
    listed: dict[str, Mapping[str, Any]] = {}
    if key:
        system.invalidate_cache()
        info = in_time(system.info, start)
        if info["type"] == "file":
            return {start: info}
    more = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    for _ in range(MOST_PAGES):
        page = in_time(system.call_s3, "list_objects_v2", **more)
        for each in page.get("Contents", ()):
            listed[f"{bucket}/{each['Key']}"] = {**each, "size": each["Size"], "type": "file"}
        if not page.get("IsTruncated"):
            return listed
        more["ContinuationToken"] = page["NextContinuationToken"]
    raise RefusedError(f"its listing has more than {MOST_PAGES} pages")


def _is_sound(info: Mapping[str, Any]) -> bool:
    """Whether a listing says of a file what it needs."""
    size = info.get("size")
    return info.get("type") != "file" or (type(size) is int and 0 <= size < LARGEST)


def _version(info: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(info[key]) for key in VERSIONS if info.get(key) is not None)
