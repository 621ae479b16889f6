"""Deltas and adapters that a user names for a whole pipeline, which has them in some components.

Rule 1: one checkpoint for several components is known by its own digest, a folder of deltas by the
digest of all of them, as in the ledgers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import ModelFiles
from ..frozen import frozen
from .added_digest import added_digest
from .given_deltas import Bases, open_delta
from .opened_inputs import OpenedInputs
from .revision import Addition, Removal, Revision


@frozen
class PartialDelta:
    """A delta or adapter that is added to some components of a soup."""

    addition: Addition
    path: str
    digest: str
    """Its digest as a whole."""
    checkpoints: tuple[Checkpoint | None, ...]
    """The checkpoint for each component of the soup; None where nothing changes."""


def open_partial_delta(
    stack: ExitStack,
    inputs: Sequence[OpenedInputs],
    addition: Addition,
    digest: str,
    soup: Bases,
) -> PartialDelta:
    """An addition of that digest, opened for the components of a soup that it changes.

    Raises MismatchError for a delta that fits no component, and for modules of an adapter that none
    has.
    """
    given = open_delta(stack, addition.path, soup)
    checkpoints = tuple(
        None if delta is None else each.open_named(delta.checkpoint.component)
        for each, delta in zip(inputs, given.deltas, strict=True)
    )
    return PartialDelta(addition, os.path.abspath(addition.path), digest, checkpoints)


def with_whole_digests(revision: Revision, soup: ModelFiles) -> Revision:
    """The revision, in which the digest of deltas of some components stands for their path."""
    if len(soup.components) == 1:
        return revision
    return replace(revision, removed=[_by_digest(each, soup) for each in revision.removals])


def _by_digest(removal: Removal, soup: ModelFiles) -> Removal:
    digest = added_digest(removal.what, soup)
    return removal if digest is None else replace(removal, what=digest)
