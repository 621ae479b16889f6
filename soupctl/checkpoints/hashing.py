"""Content digests of checkpoints, which depend on the tensors alone, and SHA-256 of files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from pathlib import Path

from ..errors import InputError, OutputError, SoupError
from ..frozen import frozen
from ..storage.files import pieces
from ..storage.reader import FileIdentity
from ..storage.regular import open_regular, reading
from ..workers import ExecutionOptions, Scratch, available_cores, run_in_order, tasks, threads_for
from .checkpoint import Checkpoint
from .digest import PREFIX, RootHasher, tensor_hasher
from .lists import ESCAPED, unescape
from .open import STREAM, find_input, open_input
from .read_progress import current_progress, with_read_progress
from .remote.address import address_of
from .safetensors import Identity, StoredTensor
from .shared_chunks import ChunkWork, SharedChunks

PIECE = 1 << 20
LARGE = 16 * PIECE
"""Bytes of a tensor that is worth several threads."""
SHA256 = "sha256:"

Progress = Callable[[int], None]
"""Called with the number of bytes just read, possibly from several threads at once."""


def ignore_progress(size: int) -> None:
    """A progress function that does nothing."""


@frozen
class FileDigest:
    """A digest, and the path that it was computed from."""

    digest: str
    path: str


@frozen
class Verdict:
    """The result of checking one line of a list of digests."""

    path: str
    expected: str
    found: str | None
    """None if the path cannot be read."""
    problem: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the digest is the expected one."""
        return self.found == self.expected


def content_digests(
    path: str | Path,
    *,
    threads: int | None = None,
    component: str | None = None,
    variant: str | None = None,
    progress: Progress = ignore_progress,
) -> tuple[FileDigest, ...]:
    """The content digests at `path`: one for a checkpoint, one for each component of a pipeline.

    `progress` is called with the bytes that were just read.
    Raises InputError for what is unreadable or not sound, MismatchError for a missing component,
    OutputError for what changes meanwhile.
    """
    model = find_input(path, component, variant)
    found = []
    for each in model.components:
        with open_input(each) as checkpoint:
            found.append(FileDigest(checkpoint_digest(checkpoint, threads, progress), each.label))
            checkpoint.require_unchanged()
    return tuple(found)


def checkpoint_digest(
    checkpoint: Checkpoint, threads: int | None = None, progress: Progress = ignore_progress
) -> str:
    """The content digest of an open checkpoint, computed once and cached there."""
    if checkpoint.digest is not None:
        return checkpoint.digest
    remembered, files = _REMEMBERED.get(), _identities(checkpoint)
    if remembered is not None and files in remembered:
        checkpoint.digest = remembered[files]
        return checkpoint.digest
    root, scratch = RootHasher(), Scratch()

    def digests(task: Sequence[str] | _LargeDigest, advance: Progress) -> list[tuple[str, str]]:
        if isinstance(task, _LargeDigest):
            return task.make(scratch, advance)
        return [(name, _tensor_digest(checkpoint.stored(name), scratch, advance)) for name in task]

    execution = ExecutionOptions(threads or available_cores(), progress=progress)
    execution = threads_for(execution, len(checkpoint.tensors), checkpoint.data_size)
    execution = with_read_progress(execution, checkpoint.data_size)
    every = _tasks(checkpoint, execution.threads)
    for name, digest in chain.from_iterable(run_in_order(digests, every, execution)):
        tensor = checkpoint.tensors[name]
        root.add(name, tensor.dtype.value, tensor.shape, digest)
    checkpoint.digest = root.digest()
    if remembered is not None and files is not None:
        remembered[files] = checkpoint.digest
    return checkpoint.digest


Identities = tuple[Identity, ...]
_REMEMBERED: ContextVar[dict[Identities, str] | None] = ContextVar("digests", default=None)


@contextmanager
def remembering_digests(known: dict[Identities, str] | None = None) -> Iterator[None]:
    """Within the block, files that are opened again unchanged are not digested again.

    `known` are digests that were computed before; new ones are added to it.
    """
    token = _REMEMBERED.set({} if known is None else known)
    try:
        yield
    finally:
        _REMEMBERED.reset(token)


def known_digests() -> Mapping[Identities, str]:
    """The digests that are remembered within the block of `remembering_digests`."""
    return dict(_REMEMBERED.get() or {})


def _identities(checkpoint: Checkpoint) -> Identities | None:
    """The files of a checkpoint in their present version; None for a stream."""
    found = tuple(file.identity for file in checkpoint.files if file.identity is not None)
    return found if len(found) == len(checkpoint.files) else None


def _tasks(checkpoint: Checkpoint, threads: int) -> Iterator[Sequence[str] | _LargeDigest]:
    """The tensors by name; a large one becomes as many tasks as there are threads."""
    for names in tasks(sorted(checkpoint.tensors), lambda name: checkpoint.tensors[name].size):
        # only the last tensor of a task can be large
        last = checkpoint.stored(names[-1])
        if threads == 1 or last.tensor.size < LARGE:
            yield names
        else:
            yield names[:-1]
            yield from [_LargeDigest(names[-1], last)] * threads


class _LargeDigest:
    """The digest of a tensor whose pieces several threads read."""

    def __init__(self, name: str, stored: StoredTensor) -> None:
        self._name, self._stored = name, stored
        size = stored.tensor.size
        self._pieces = SharedChunks([(n, min(n + PIECE, size)) for n in range(0, size, PIECE)])
        self._hasher = tensor_hasher()

    def make(self, scratch: Scratch, advance: Progress) -> list[tuple[str, str]]:
        """Digest pieces until none is left; returns the digest if the last one was among them."""
        (buffer,) = scratch.parts(PIECE)
        piece = buffer

        def read(start: int, stop: int) -> int:
            nonlocal piece
            piece = buffer[: stop - start]
            self._stored.read_into(piece, start)
            return len(piece)

        if self._pieces.make([ChunkWork(read, lambda: self._hasher.update(piece))], advance):
            return [(self._name, str(self._hasher.hexdigest()))]
        return []


def _tensor_digest(stored: StoredTensor, scratch: Scratch, advance: Progress) -> str:
    hasher = tensor_hasher()
    for _, piece in stored.pieces(scratch):
        hasher.update(piece)
        advance(len(piece))
    return str(hasher.hexdigest())


def file_sha256(path: str | Path, *, progress: Progress = ignore_progress) -> FileDigest:
    """SHA-256 of a whole file or, for `-`, of standard input, header and all.

    `progress` is called with the bytes that were just read.
    Raises InputError for unreadable files, OutputError for files that change meanwhile.
    """
    if path == STREAM:
        return _stream_sha256("standard input")
    if (address := address_of(path)) is not None:
        what = "is not on this disk, where alone it can be used for this"
        raise InputError(what, path=address.shown, advice="download it, and name the copy")
    # imported late, because loading OpenSSL takes time
    from hashlib import sha256  # noqa: PLC0415

    hasher = sha256()
    digest_file(Path(path), hasher.update, progress)
    return FileDigest(SHA256 + hasher.hexdigest(), str(path))


def digest_file(
    path: Path, update: Callable[[bytes], object], progress: Progress = ignore_progress
) -> None:
    """Give all bytes of a file to a hasher's `update`, piece by piece.

    Raises InputError for unreadable files, OutputError for files that change meanwhile.
    """
    label = str(path)
    with open_regular(path, label) as (fd, state), reading(label):
        reported = current_progress()
        reported.expect(state.st_size)
        for piece in pieces(fd, state.st_size, label):
            update(piece)
            progress(len(piece))
            reported(len(piece))
        if FileIdentity.of(os.fstat(fd)) != FileIdentity.of(state):
            raise OutputError("changed while it was read", path=label)


def _stream_sha256(label: str) -> FileDigest:
    from hashlib import sha256  # noqa: PLC0415

    hasher = sha256()
    with reading(label):
        while piece := os.read(sys.stdin.fileno(), PIECE):
            hasher.update(piece)
    return FileDigest(SHA256 + hasher.hexdigest(), label)


def check_digests(
    lines: Iterable[str],
    source: str,
    variant: str | None = None,
    *,
    digest_other: Callable[[Path], FileDigest | None] = lambda path: None,
) -> Iterator[Verdict]:
    """A verdict for each line `DIGEST  PATH` of a list such as `soupctl hash` prints.

    `digest_other` gives the digest of a path that is not a checkpoint, and None for a checkpoint.
    In a line that begins with a backslash, the path is escaped as `lists.escape` does.
    Raises InputError naming `source` for a malformed line; an unreadable path is a verdict.
    """
    number = 0
    for number, line in enumerate(lines, 1):
        expected, path = _digest_and_path(line, number, source)
        # lists contain files only, and this path is not a stream
        place = f"./{path}" if path == STREAM else path
        try:
            if expected.startswith(SHA256):
                digests: tuple[FileDigest, ...] = (file_sha256(place),)
            elif other := digest_other(Path(place)):
                digests = (other,)
            else:
                digests = content_digests(place, variant=variant)
            if len(digests) > 1:
                raise InputError("holds several checkpoints", path=path)
        except SoupError as error:
            yield Verdict(path, expected, None, error.issues[0].what)
        else:
            yield Verdict(path, expected, digests[0].digest)
    if not number:
        raise InputError("holds no digests", path=source)


def _digest_and_path(line: str, number: int, source: str) -> tuple[str, str]:
    expected, gap, path = line.rstrip("\n").removeprefix(ESCAPED).partition("  ")
    try:
        path = unescape(path) if line.startswith(ESCAPED) else path
    except ValueError:
        gap = ""
    if not gap or not path or not expected.startswith((PREFIX, SHA256)):
        raise InputError(f"line {number} is not a digest and a path", path=source)
    return expected, path
