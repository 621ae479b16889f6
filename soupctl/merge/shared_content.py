"""Sources of equal content, of which one is read for all: a VAE that several pipelines share.

Rule 1: equal are sources that read the same files, as the system identifies them, whatever links
lead there, and sources whose digests, computed since they were opened, are equal. A name proves
nothing, even if it is a digest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from ..checkpoints.checkpoint import Checkpoint
from .kept_sum.reader import AlignedCheckpoint, Source

AnySource = TypeVar("AnySource", bound=Source)


def as_read(sources: Iterable[AnySource]) -> list[AnySource]:
    """For each source, the first one of equal content, which is read for both."""
    first: dict[Hashable, AnySource] = {}
    read = []
    for source in sources:
        keys = _keys(source)
        known = next((first[key] for key in keys if key in first), source)
        for key in keys:
            first.setdefault(key, known)
        read.append(known)
    return read


def distinct(sources: Iterable[AnySource]) -> tuple[AnySource, ...]:
    """The sources, one of each content."""
    return tuple(dict.fromkeys(as_read(sources)))


def _keys(source: Source) -> list[Hashable]:
    """Keys of which equal sources have one in common."""
    if isinstance(source, AlignedCheckpoint):
        names = tuple((name, tensor.name) for name, tensor in source.tensors.items())
        return [(key, names) for key in _keys(source.checkpoint)]
    keys: list[Hashable] = [id(source)]
    if isinstance(source, Checkpoint):
        if source.digest is not None:
            keys.append(source.digest)
        identities = tuple(file.identity for file in source.files)
        # a spooled stream has no identity
        if None not in identities:
            keys.append(identities)
    return keys
