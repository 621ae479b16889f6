"""Deltas and adapters that a user names for a whole pipeline, which has them in some components.

Rule 1: one checkpoint for several components is known by its own digest, a folder of deltas by the
digest of all of them, as in the ledgers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import ModelFiles
from ..checkpoints.listing import PIPELINE
from ..checkpoints.open import STREAM, find_input, open_input
from ..frozen import frozen
from ..ledger.data_files import is_image
from ..ledger.data_shard import is_data_folder
from ..ledger.pipelines import pipeline_digest
from .delta.format import COMPONENT_FILE
from .given_deltas import Bases, open_delta
from .opened_inputs import OpenedInputs, is_input
from .revision import Addition, Removal, Revision
from .sources import is_added


@frozen
class PartialDelta:
    """A delta or adapter that is added to some components of a soup."""

    addition: Addition
    path: str
    digest: str
    """Its digest as a whole."""
    checkpoints: tuple[Checkpoint | None, ...]
    """What each component of the soup gets; None where it changes nothing."""


def open_partial(
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


def find_for(path: str | Path, component: str | None, variant: str | None = None) -> ModelFiles:
    """The files of what is named beside a soup, of which `component` may be picked.

    A lone delta or adapter may be of that component. Raises what `find_input` raises.
    """
    if component is not None and path != STREAM and Path(path).is_file():
        model = find_input(path)
        with open_input(model.components[0]) as checkpoint:
            if is_added(checkpoint):
                return model
    return find_input(path, component, variant)


def _is_pipeline(folder: Path) -> bool:
    """Whether a folder is a pipeline of models, not of deltas; found without opening a file."""
    return (folder / PIPELINE).exists() and not any(folder.glob(f"*/{COMPONENT_FILE}"))


def added_digest(what: str | Path, soup: ModelFiles) -> str | None:
    """The digest of deltas or an adapter at a path, unless they are of each component of a soup.

    None for anything else.
    """
    if len(soup.components) == 1 or what == STREAM or not is_input(str(what)):
        return None
    if is_image(Path(what)) or is_data_folder(Path(what)) or _is_pipeline(Path(what)):
        return None
    model = find_input(what)
    names = [component.name for component in model.components]
    if names == [component.name for component in soup.components]:
        return None
    with ExitStack() as stack:
        opened = [stack.enter_context(open_input(each)) for each in model.components]
        if not all(map(is_added, opened)):
            return None
        digests = [checkpoint_digest(each) for each in opened]
    is_lone = len(digests) == 1 and not names[0]
    return digests[0] if is_lone else pipeline_digest(dict(zip(names, digests, strict=True)))
