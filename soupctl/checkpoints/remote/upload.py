"""One object of S3, sent in parts while its bytes are made in any order.

Rule 1: a part is sent when its last byte is known; the first one, with the header, is often last.
Rule 2: few parts wait in memory: who writes waits while enough are being sent.
Rule 3: no byte is written twice.
"""

from __future__ import annotations

import errno
from concurrent.futures import Future, ThreadPoolExecutor
from secrets import token_hex
from threading import BoundedSemaphore, Lock
from typing import Any

from ...errors import SoupError
from ...workers import needed_while
from .address import Address
from .attempts import WRITING, RefusedError, attempted, status_of
from .buckets import MALFORMED, in_time

PART = 8 << 20
"""Bytes of a part, but for large objects and the last part; S3 takes no smaller ones than 5 MiB."""
MEBIBYTE = 1 << 20
"""Parts are of so many whole bytes."""
MOST_PARTS = 10_000
AT_ONCE = 4
"""Parts that are sent at one time."""
WAITING = 2
"""Parts that are complete, and wait for one of those."""
BEGUN = 10
"""Parts of which some bytes are missing: one of each width, one of each thread, and the first."""
MARK = "soupctl-upload"
"""The metadata by which an object is known to be of one upload."""
CONFLICT = 412
"""The status that says that an object exists."""


class TakenError(Exception):
    """There is an object of that name."""


def part_size(size: int) -> int:
    """Bytes of each part of an object but the last, so that there are few enough."""
    least = -(-size // MOST_PARTS)
    return max(PART, -(-least // MEBIBYTE) * MEBIBYTE)


def most_held(size: int) -> int:
    """Bytes that an upload holds at most: parts that are sent, and those that are begun.

    Tensors are made in the order of their names, and lie in a file by the width of their dtypes.
    """
    return part_size(size) * (AT_ONCE + WAITING + BEGUN)


class Upload:
    """An object that is being written; `abort` removes all traces of it at any time."""

    def __init__(self, system: Any, address: Address, size: int) -> None:
        self._system = system
        self._shown = address.shown
        bucket, _, key = address.rest.partition("/")
        self._place = {"Bucket": bucket, "Key": key}
        self._size = size
        self._part = part_size(size)
        self._mark = token_hex(16)
        self._id: str | None = None
        self._buffers: dict[int, bytearray] = {}
        self._left: dict[int, int] = {}
        """Bytes that are still missing, of each part that is begun."""
        self._sent: dict[int, Future[str]] = {}
        self._lock = Lock()
        self._beginning = Lock()
        """Held while a request to begin the upload is made."""
        self._room = BoundedSemaphore(AT_ONCE + WAITING)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="soupctl-upload")
        self._is_stopped = False
        self._failure: SoupError | None = None
        """Why a part could not be sent."""

    def begin(self) -> None:
        """Begin the upload; OutputError if the bucket does not allow it."""

        def create() -> Any:
            metadata = {MARK: self._mark}
            return self._call("create_multipart_upload", **self._place, Metadata=metadata)

        def named() -> None:
            with self._beginning, needed_while(lambda: not self._is_stopped):
                self._id = attempted(self._shown, lambda: _named(create(), "UploadId"), WRITING)

        # in another thread, so that a signal cannot lose the answer to a request that was made
        self._pool.submit(named).result()

    def _call(self, method: str, **values: Any) -> Any:
        if self._is_stopped and method != "abort_multipart_upload":
            raise RefusedError("it was given up")
        return in_time(self._system.call_s3, method, **values)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Take all of `data` at `offset`; OutputError if a part cannot be sent."""
        rest = memoryview(data).cast("B")
        while rest:
            number, start = divmod(offset, self._part)
            piece = rest[: self._part - start]
            self._fill(number, start, piece)
            rest, offset = rest[len(piece) :], offset + len(piece)

    def _fill(self, number: int, start: int, piece: memoryview) -> None:
        """Put bytes into a part, and send it if it is complete."""
        with self._lock:
            assert number not in self._sent, "a byte was written twice"
            if number not in self._buffers:
                size = min(self._part, self._size - number * self._part)
                self._buffers[number] = bytearray(size)
                self._left[number] = size
            buffer = self._buffers[number]
        buffer[start : start + len(piece)] = piece
        with self._lock:
            self._left[number] -= len(piece)
            if self._left[number]:
                return
            del self._buffers[number], self._left[number]
        if self._failure is not None:
            raise self._failure
        # a failed part gives its room back, so that nobody waits for ever
        self._room.acquire()
        with self._lock:
            self._sent[number] = self._pool.submit(self._send, number, buffer)

    def _send(self, number: int, buffer: bytearray) -> str:
        """Send one part; returns what the server calls it."""

        def put() -> Any:
            place = {**self._place, "PartNumber": number + 1, "UploadId": self._id}
            return self._call("upload_part", **place, Body=buffer)

        try:
            with needed_while(lambda: not self._is_stopped):
                return attempted(self._shown, lambda: _named(put(), "ETag"), WRITING)
        except SoupError as error:
            self._failure = error
            raise
        finally:
            self._room.release()

    def sync(self) -> None:
        """Wait until all parts that are complete have arrived; OutputError if one has not."""
        for each in [*self._sent.values()]:
            each.result()

    def finish(self, *, replace: bool) -> None:
        """Make the object of its parts; TakenError if there is one by then, and not replaced.

        Raises OutputError if that fails.
        """
        assert not self._buffers, "bytes are missing"
        parts = [
            {"PartNumber": number + 1, "ETag": self._sent[number].result()}
            for number in sorted(self._sent)
        ]
        condition = {} if replace else {"IfNoneMatch": "*"}

        def complete() -> None:
            try:
                self._complete(parts, condition)
            except OSError as error:
                # an answer that was lost may have been that it is made
                if self._is_made():
                    return
                if status_of(error) == CONFLICT:
                    raise TakenError from None
                raise

        attempted(self._shown, complete, WRITING)
        self._id = None
        self._pool.shutdown()

    def _complete(self, parts: list[dict[str, Any]], condition: dict[str, str]) -> None:
        values = {"UploadId": self._id, "MultipartUpload": {"Parts": parts}}
        try:
            self._call("complete_multipart_upload", **self._place, **values, **condition)
        except OSError as error:
            if error.errno != errno.ENOSYS or not condition:
                raise
            # a store that knows no conditions is asked shortly before
            if self._head() is not None:
                raise TakenError from None
            self._call("complete_multipart_upload", **self._place, **values)

    def _is_made(self) -> bool:
        """Whether the object there is that of this upload."""
        try:
            found = self._head()
        except OSError:
            return False
        return found is not None and found.get("Metadata", {}).get(MARK) == self._mark

    def _head(self) -> Any:
        """What the server says of the object; None if there is none."""
        try:
            return self._call("head_object", **self._place)
        except FileNotFoundError:
            return None

    def abort(self) -> bool:
        """Give the upload up, unless it is finished; whether nothing of it is left there."""
        self._is_stopped = True
        # a part that arrives after the end of its upload would stay
        self._pool.shutdown(wait=True, cancel_futures=True)
        # the pool does not know a thread that a signal interrupted it in starting
        with self._beginning:
            is_begun = self._id is not None
        if not is_begun:
            return True

        def end() -> None:
            try:
                place = {**self._place, "UploadId": self._id}
                self._call("abort_multipart_upload", **place)
            except FileNotFoundError:
                return

        try:
            attempted(self._shown, end, WRITING)
        except SoupError:
            return False
        return True


def _named(answer: Any, key: str) -> str:
    """The text that an answer must have; RefusedError if it is not there."""
    found = answer.get(key)
    if not isinstance(found, str):
        raise RefusedError(MALFORMED)
    return found
