"""Content digests: of a checkpoint's tensors, whatever file, shards or metadata hold them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OutputError, SoupError
from ..execute import available_cores
from ..storage.checkpoint import Checkpoint
from ..storage.digest import PREFIX, RootHasher, tensor_hasher
from ..storage.regular import open_regular, read_at, reading
from ..storage.safetensors import Identity
from .inputs import find_input, open_input

PIECE = 1 << 20
SHA256 = "sha256:"


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A digest and what it is the digest of."""

    digest: str
    path: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a path has the digest that a list says it has."""

    path: str
    expected: str
    found: str | None
    """None if it cannot be read."""
    problem: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the digest is the expected one."""
        return self.found == self.expected


def content_digests(
    path: str | Path, *, threads: int | None = None, variant: str | None = None
) -> tuple[FileDigest, ...]:
    """The content digest of each checkpoint at `path`: one, or one a component of a pipeline.

    Raises InputError for what is unreadable or not sound, OutputError if it changes meanwhile.
    """
    model = find_input(path, variant=variant)
    found = []
    for component in model.components:
        with open_input(component) as checkpoint:
            found.append(FileDigest(checkpoint_digest(checkpoint, threads), component.shown))
            checkpoint.require_unchanged()
    return tuple(found)


def checkpoint_digest(checkpoint: Checkpoint, threads: int | None = None) -> str:
    """The content digest of an open checkpoint."""
    names = sorted(checkpoint.tensors)
    root = RootHasher()
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        digests = pool.map(lambda name: _tensor_digest(checkpoint.view(name)), names)
        for name, digest in zip(names, digests, strict=True):
            tensor = checkpoint.tensors[name]
            root.add(name, tensor.dtype.value, tensor.shape, digest)
    return root.digest()


def _tensor_digest(view: memoryview) -> str:
    hasher = tensor_hasher()
    for start in range(0, len(view), PIECE):
        hasher.update(view[start : start + PIECE])
    return hasher.hexdigest()


def file_sha256(path: str | Path) -> FileDigest:
    """SHA-256 of a whole file, header and all; InputError if unreadable, OutputError if changed."""
    hasher = hashlib.sha256()
    shown = str(path)
    with open_regular(Path(path), shown) as (fd, state), reading(shown):
        for offset in range(0, state.st_size, PIECE):
            hasher.update(read_at(fd, PIECE, offset))
        if Identity.of(os.fstat(fd)) != Identity.of(state):
            raise OutputError("changed while it was read", path=shown)
    return FileDigest(SHA256 + hasher.hexdigest(), str(path))


def check_digests(lines: Iterable[str], source: str) -> Iterator[Verdict]:
    """A verdict for each line `DIGEST  PATH` of a list such as `soupctl hash` prints.

    Raises InputError naming `source` for a line that is none; what cannot be read is a verdict.
    """
    number = 0
    for number, line in enumerate(lines, 1):
        expected, gap, path = line.rstrip("\n").partition("  ")
        if not gap or not expected.startswith((PREFIX, SHA256)):
            raise InputError(f"line {number} is no digest and path", path=source)
        try:
            if expected.startswith(SHA256):
                digests: tuple[FileDigest, ...] = (file_sha256(path),)
            else:
                digests = content_digests(path)
            if len(digests) > 1:
                raise InputError("holds several checkpoints", path=path)
        except SoupError as error:
            yield Verdict(path, expected, None, error.issues[0].what)
        else:
            yield Verdict(path, expected, digests[0].digest)
    if not number:
        raise InputError("holds no digests", path=source)
