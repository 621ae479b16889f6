"""A module's names in the two namings of an architecture."""

from __future__ import annotations

from collections.abc import Mapping

from ..frozen import frozen


@frozen
class NamePair:
    """A module's original name, and its name in diffusers or transformers."""

    original: str
    parts: tuple[str, ...]
    """One name, or those of the modules that the original fuses by rows."""
    is_swapped: bool = False
    """Whether the two halves of the rows, shift and scale, are swapped."""
    is_grouped: bool = False
    """Whether the first part has as many rows as columns, and the others share the rest."""


def pairs(names: Mapping[str, str]) -> tuple[NamePair, ...]:
    """The pairs of modules that are whole in both namings."""
    return tuple(NamePair(original, (other,)) for original, other in names.items())


def fused(original: str, *parts: str) -> NamePair:
    """The pair of a module that the original fuses by rows."""
    return NamePair(original, parts)
