"""An architecture as a value: tensors that identify it, and where their names come from."""

from __future__ import annotations

from collections.abc import Mapping

from ..frozen import frozen

Tensors = tuple[tuple[str, Mapping[int, int]], ...]


@frozen
class Pattern:
    """An architecture: tensors that it has, each with the dimensions that identify it."""

    title: str
    tensors: Tensors
    """Name and {axis: size}; a name may be a prefix if it ends in a dot."""
    source: str
    is_prefixed: bool = False
    """Whether the tensors may have one of the common prefixes."""


Entry = str | tuple[str, Mapping[int, int]]


def _tensors(entries: tuple[Entry, ...]) -> Tensors:
    return tuple((each, {}) if isinstance(each, str) else each for each in entries)


def original_naming(title: str, source: str, *entries: Entry) -> Pattern:
    """An architecture with the names of its release."""
    return Pattern(f"{title}, original naming", _tensors(entries), source, is_prefixed=True)


def ldm_naming(title: str, source: str, *entries: Entry) -> Pattern:
    """An architecture with the names of latent-diffusion and its successors."""
    return Pattern(f"{title}, LDM naming", _tensors(entries), source)


def diffusers_naming(title: str, source: str, *entries: Entry) -> Pattern:
    """An architecture with the names of a class of diffusers."""
    return Pattern(f"{title}, diffusers naming", _tensors(entries), source)


def architecture(title: str, source: str, *entries: Entry) -> Pattern:
    """An architecture by its whole title."""
    return Pattern(title, _tensors(entries), source)
