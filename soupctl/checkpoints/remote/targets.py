"""Objects that are written to S3 and Google Cloud Storage: each appears whole, or not at all.

Rule 1: an object is named after all its bytes are sent and the inputs are checked again.
Rule 2: without `replace`, that fails if there is an object by then; S3 is asked to refuse it.
Rule 3: credentials and endpoints are found by the libraries, in their own places.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

from ...errors import OutputError
from ...storage.partial import preallocate
from ...storage.place import FORCE
from ...storage.written import Writable, WrittenFile
from .address import Address
from .attempts import WRITING, RefusedError, attempted, faults
from .buckets import file_system, in_time
from .upload import MARK, TakenError, Upload


def require_free_object(address: Address, *, replace: bool) -> None:
    """Raise OutputError for an object that exists and is not replaced, or that cannot be asked for.

    Where only writing is allowed, the object is looked for when it is written.
    """
    file_system(address.scheme)
    if not replace and attempted(address.shown, lambda: _exists(address), WRITING):
        raise _exists_already(address)


def _exists(address: Address) -> bool:
    system = file_system(address.scheme)
    system.invalidate_cache()
    try:
        found = in_time(system.info, address.rest)
    except (FileNotFoundError, PermissionError):
        return False
    return bool(found["type"] == "file")


def _exists_already(address: Address) -> OutputError:
    return OutputError("exists", path=address.shown, advice=FORCE)


@contextmanager
def publish_object(
    address: Address, size: int, *, replace: bool, check: Callable[[], None]
) -> Iterator[Writable]:
    """Yield what takes the `size` bytes of an object, which appears on a clean exit after `check`.

    Raises OutputError if it exists and `replace` is false, or if it cannot be written; then nothing
    is left on the server.
    """
    require_free_object(address, replace=replace)
    publish = _in_parts if address.scheme == "s3" else _spooled
    with publish(address, size, replace, check) as target:
        yield target


@contextmanager
def _in_parts(
    address: Address, size: int, replace: bool, check: Callable[[], None]
) -> Iterator[Writable]:
    """An object of S3, whose parts are sent while the others are made."""
    upload = Upload(file_system(address.scheme), address, size)
    try:
        upload.begin()
        yield upload
        upload.sync()
        check()
        try:
            upload.finish(replace=replace)
        except TakenError:
            raise _exists_already(address) from None
    except BaseException as error:
        if not upload.abort() and isinstance(error, OutputError):
            raise OutputError(_with_rest(error), path=address.shown) from None
        raise


def _with_rest(error: OutputError) -> str:
    """What went wrong with an upload of which parts remain."""
    return f"{error.issues[0].what}; parts of it remain there, as an unfinished upload"


@contextmanager
def _spooled(
    address: Address, size: int, replace: bool, check: Callable[[], None]
) -> Iterator[Writable]:
    """An object of a store that takes bytes only in their order: from a file without other use."""
    folder = tempfile.gettempdir()
    with tempfile.NamedTemporaryFile(dir=folder, prefix="soupctl-") as spool:
        preallocate(spool.fileno(), size, folder)
        yield WrittenFile(spool.fileno())
        check()
        _send(spool.name, address, replace)


def _send(spool: str, address: Address, replace: bool) -> None:
    """Send a file whole; one that exists is an error of the server, unless `replace`."""
    system = file_system(address.scheme)
    mode, mark = "overwrite" if replace else "create", token_hex(16)

    def put() -> bool:
        try:
            # no limit on time: the object may be large
            system.put_file(spool, address.rest, mode=mode, metadata={MARK: mark})
        except faults() as error:
            # an answer that was lost may have been that it is there
            if _has_mark(system, address, mark):
                return True
            if isinstance(error, FileExistsError):
                return False
            raise
        return True

    if not attempted(address.shown, put, WRITING):
        raise _exists_already(address)


def _has_mark(system: Any, address: Address, mark: str) -> bool:
    """Whether the object there is the one that was sent with this mark."""
    system.invalidate_cache()
    try:
        found = in_time(system.info, address.rest)
    except RefusedError:
        return False
    except faults():
        return False
    return bool((found.get("metadata") or {}).get(MARK) == mark)
