"""Deltas as sources of a sum.

Rule 1: a delta is the sum of its planes, which share its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.digest import text_digest
from ...checkpoints.safetensors import StoredTensor
from ...errors import LedgerError
from ...format.header import Tensor
from ...ledger.ledger import DELTA_KEY, Ledger
from ...ledger.read import is_delta, ledger_text, read_ledger
from ..chunks import PLANE_BYTES
from ..stored_terms import StoredTerms
from .format import MAKE, DeltaFacts, parse_facts, planes_by_tensor


class DeltaReader:
    """An open delta: the tensors that hold each difference."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raise LedgerError for a checkpoint that is not a sound delta."""
        self.checkpoint = checkpoint
        self.gives_fine = False
        """Whether it is applied so that the result is FINE, the signs of zeros among it."""
        self.ledger, self.facts = _record_of(checkpoint)
        try:
            self.planes = planes_by_tensor(checkpoint.tensors.values(), self.facts)
        except ValueError as error:
            raise invalid_delta(self.label, str(error)) from None
        sizes = {
            name: sum(plane.size for plane in planes.every) for name, planes in self.planes.items()
        }
        self.tensors: Mapping[str, Tensor] = {
            name: Tensor(name, dtype, shape, 0, sizes[name])
            for name, dtype, shape in self.facts.tensors
        }
        """The tensors that it changes, with the dtypes and shapes that they have in FINE."""

    def giving_fine(self) -> DeltaReader:
        """A reader of the delta for an application whose result is FINE."""
        found = copy(self)
        found.gives_fine = True
        return found

    def plain(self) -> DeltaReader:
        """A reader of the delta as one of several terms."""
        found = copy(self)
        found.gives_fine = False
        return found

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.checkpoint.label

    @property
    def digest(self) -> str | None:
        """Its content digest, if known."""
        return self.checkpoint.digest

    def is_whole(self, name: str) -> bool:
        """Whether it stores FINE's tensor of that name whole."""
        return self.planes[name].whole is not None

    def bytes_an_element(self, name: str) -> int:
        """The most memory that an element of a chunk takes, in all planes of a tensor."""
        planes = self.planes.get(name)
        return 0 if planes is None else 2 * PLANE_BYTES * len(planes.every)

    def has_negative_zeros(self, name: str) -> bool:
        """Whether FINE holds -0.0 in a tensor."""
        return self.planes[name].negative_zeros is not None

    def stored_planes(self, name: str) -> tuple[StoredTensor, ...]:
        """All tensors that it stores for a tensor."""
        return tuple(self.checkpoint.stored(plane.name) for plane in self.planes[name].every)

    def stored_terms(self, name: str) -> StoredTerms:
        """The terms of the difference of one tensor."""
        planes, stored = self.planes[name], self.checkpoint.stored
        signs = planes.negative_zeros
        return StoredTerms(
            tuple(stored(plane.name) for plane in planes.dense),
            tuple((stored(places.name), stored(values.name)) for places, values in planes.sparse),
            None if signs is None else stored(signs.name),
        )


def _record_of(checkpoint: Checkpoint) -> tuple[Ledger, DeltaFacts]:
    """The ledger and the facts of a delta; LedgerError if they are not sound."""
    text = ledger_text(checkpoint)
    ledger = read_ledger(checkpoint)
    if not is_delta(checkpoint) or text is None or ledger is None or not ledger.is_delta:
        raise LedgerError("is not a delta", path=checkpoint.label, advice=MAKE)
    facts = parse_facts(checkpoint.metadata[DELTA_KEY], text, checkpoint.label, text_digest)
    return ledger, facts


def invalid_delta(label: str, problem: str, tensor: str | None = None) -> LedgerError:
    """The error for a malformed delta."""
    return LedgerError(f"is not a valid delta: {problem}", path=label, tensor=tensor, advice=MAKE)
