"""The kind of every tensor of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from ..format.header import Tensor
from .codes import find_codes
from .constants import find_constants
from .copies import find_copies
from .factors import find_factors
from .facts import NO_FACTS, TensorFacts
from .kind import WEIGHT, TensorKind

Kinds = Mapping[str, TensorKind]
"""The kinds of tensors by name, without those that are plain weights."""


def classify(tensors: Mapping[str, Tensor], facts: TensorFacts = NO_FACTS) -> Kinds:
    """The kind of each tensor that is not a plain weight; linear in their number."""
    return {
        **find_copies(tensors),
        **find_constants(tensors),
        **find_factors(tensors, facts),
        **find_codes(tensors, facts),
    }


def kind_of(kinds: Kinds, name: str) -> TensorKind:
    """The kind of one tensor."""
    return kinds.get(name, WEIGHT)
