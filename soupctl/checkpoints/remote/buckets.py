"""Objects in S3 and Google Cloud Storage, through fsspec.

Rule 1: credentials and endpoints are found by the libraries, in their own places.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InputError
from ...frozen import frozen
from ...storage.elsewhere import FileElsewhere
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
OPTIONS: Mapping[str, Mapping[str, Any]] = {"s3": {}, "gs": {"version_aware": True}}
"""What is asked of each library; that of S3 is told of versions by each request."""
LOGS = ("aiobotocore", "botocore", "gcsfs", "google", "s3fs")
"""Loggers of libraries: failures are told here, and what passes is of no use to users."""
VERSIONS = ("etag", "generation", "mtime")
"""What both a listing and a look at one object of Google Cloud Storage tell of its version."""


@frozen
class StoredObject:
    """One version of an object in Google Cloud Storage."""

    system: Any
    """The file system of fsspec that reads it, which knows versions."""
    name: str
    """Its bucket and key."""
    address: str
    size: int
    generation: str | None
    """The server's name for the version, which is then asked for."""
    version: tuple[str, ...]

    @property
    def hint(self) -> str:
        """Its address; no version can be named in it."""
        return self.address

    def read(self, start: int, stop: int) -> bytes:
        """The bytes of a range; InputError if it cannot be read, OutputError if it has changed."""
        name = self.name if self.generation is None else f"{self.name}#{self.generation}"

        def ranged() -> bytes:
            try:
                data: bytes = in_time(self.system.cat_file, name, start=start, end=stop)
            except OSError:
                # that version may be gone, and a range may lie beyond the end of another
                if not self._has_version():
                    raise ChangedError from None
                raise
            is_checked = self.generation is not None and len(data) == stop - start
            if not is_checked and not self._has_version():
                raise ChangedError
            if len(data) != stop - start:
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

    for name in LOGS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    system = fsspec.filesystem(scheme, **OPTIONS[scheme])
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
    from .s3_objects import s3_objects

    system = file_system(address.scheme)
    every = s3_objects if address.scheme == "s3" else _google_objects

    def found() -> Mapping[str, FileElsewhere]:
        try:
            files: Mapping[str, FileElsewhere] = every(system, address)
        except faults():
            raise
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise RefusedError(MALFORMED) from error
        if not all(type(each.size) is int and 0 <= each.size < LARGEST for each in files.values()):
            raise RefusedError(MALFORMED)
        return files

    files = attempted(address.shown, found)
    if not files:
        raise InputError("cannot be read: there is no such file", path=address.shown)
    hint = files[""].hint if "" in files else address.shown
    return RemoteFiles(address.shown, hint, files)


def _google_objects(system: Any, address: Address) -> Mapping[str, StoredObject]:
    """The object at an address, with no name, or else those below it."""
    start = address.rest.rstrip("/")
    listed: Mapping[str, Mapping[str, Any]] = in_time(system.find, start, detail=True)
    return {
        name.removeprefix(start).lstrip("/"): StoredObject(
            system,
            name,
            f"{address.scheme}://{name}",
            info["size"],
            str(info["generation"]) if info.get("generation") else None,
            _version(info),
        )
        for name, info in listed.items()
        if info["type"] == "file" and not name.endswith("/")
    }


def _version(info: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(info[key]) for key in VERSIONS if info.get(key) is not None)
