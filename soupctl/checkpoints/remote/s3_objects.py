"""Objects in S3: one version of each, all of whose answers are checked to be of that version.

Rule 1: an answer names its version, so no request is made only to learn of it.
Rule 2: times of change are compared by the second: listings of some stores tell fractions of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...frozen import frozen
from ...pattern import pattern
from .address import Address
from .attempts import SHORT, ChangedError, RefusedError, ShortAnswerError, attempted, status_of
from .buckets import in_time

MOST_PAGES = 100
"""Pages of a listing, of a thousand objects each."""
RANGE = pattern(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
BEYOND = 416
"""The status that says that an object has no such range."""


@frozen
class S3Object:
    """One version of an object in a bucket of S3."""

    system: Any
    """The file system of fsspec that makes requests."""
    place: Mapping[str, str]
    """Its bucket and key, and the version if the address names one, as requests name them."""
    size: int
    version: tuple[str, ...]
    """What the server calls its version: ETag and time of change."""

    @property
    def address(self) -> str:
        """Its address in messages."""
        return f"s3://{self.place['Bucket']}/{self.place['Key']}"

    @property
    def hint(self) -> str:
        """Its address in ledgers, with the version if the user named one."""
        named = self.place.get("VersionId")
        return self.address if named is None else f"{self.address}?versionId={named}"

    def read(self, start: int, stop: int) -> bytes:
        """The bytes of a range; InputError if it cannot be read, OutputError if it has changed."""
        return attempted(self.address, lambda: self._ranged(start, stop))

    def _ranged(self, start: int, stop: int) -> bytes:
        from fsspec.asyn import sync

        try:
            data: bytes = in_time(sync, self.system.loop, self._received, start, stop)
        except OSError as error:
            if status_of(error) == BEYOND:
                raise ChangedError from None
            raise
        return data

    async def _received(self, start: int, stop: int) -> bytes:
        """The bytes of a range, from an answer that is of this version and of that range."""
        wanted = f"bytes={start}-{stop - 1}"
        # fsspec's name for the awaitable `call_s3`, whose answer is read in the same thread
        answer = await self.system._call_s3("get_object", **self.place, Range=wanted)  # noqa: SLF001
        try:
            first, last, size = _range(answer)
            if (size, version_of(answer)) != (self.size, self.version):
                raise ChangedError
            if (first, last + 1) != (start, stop):
                raise ShortAnswerError(SHORT)
            data: bytes = await answer["Body"].read()
        finally:
            answer["Body"].close()
        if len(data) != stop - start:
            raise ShortAnswerError(SHORT)
        return data

    def is_unchanged(self) -> bool:
        """Whether the bucket still has this version; InputError if it does not answer."""
        return attempted(self.address, lambda: _asked(self.system, self.place) == self)


def s3_objects(system: Any, address: Address) -> Mapping[str, S3Object]:
    """The object at an address, with no name, or else those below it; RefusedError for too many."""
    bucket, _, key = address.object_name.rstrip("/").partition("/")
    place = {"Bucket": bucket, "Key": key}
    if key:
        named = address.object_version
        try:
            return {"": _asked(system, place if named is None else {**place, "VersionId": named})}
        except FileNotFoundError:
            if named is not None:
                raise
    start, listed = f"{key}/" if key else "", {}
    more = {"Bucket": bucket, "Prefix": start}
    for _ in range(MOST_PAGES):
        page = in_time(system.call_s3, "list_objects_v2", **more)
        for each in page.get("Contents", ()):
            if (name := each["Key"]) and not name.endswith("/"):
                found = S3Object(system, {**place, "Key": name}, each["Size"], version_of(each))
                listed[name.removeprefix(start)] = found
        if not page.get("IsTruncated"):
            return listed
        more["ContinuationToken"] = page["NextContinuationToken"]
    raise RefusedError(f"its listing has more than {MOST_PAGES} pages")


def _asked(system: Any, place: Mapping[str, str]) -> S3Object:
    """The object at a place as the server tells of it; OSError if there is none."""
    told = in_time(system.call_s3, "head_object", **place)
    return S3Object(system, place, told["ContentLength"], version_of(told))


def version_of(told: Mapping[str, Any]) -> tuple[str, ...]:
    """What an answer or an item of a listing calls the version of an object."""
    changed = told.get("LastModified")
    known = (told.get("ETag"), None if changed is None else changed.replace(microsecond=0))
    return tuple(str(each) for each in known if each)


def _range(answer: Mapping[str, Any]) -> tuple[int, int, int]:
    """First and last byte of an answer, and the size of the object; RefusedError without them."""
    found = RANGE.fullmatch(answer.get("ContentRange") or "")
    if found is None:
        raise RefusedError("the server sends no parts of objects")
    first, last, size = map(int, found.groups())
    return first, last, size
