"""Guesses the architecture of a model from tensor names and shapes.

Rule 1: a guess for people, in messages and in `inspect`; no number ever depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..format.header import Tensor
from ..kinds.factors import find_factors
from ..kinds.facts import NO_FACTS
from .architecture_patterns import CONTROLS, FIRST, INPUTS, INPUTS_OF, MARKERS, PATTERNS, PREFIXES

LONGEST = max(map(len, PREFIXES)) + max(len(name) for each in PATTERNS for name, _ in each.tensors)
"""Letters of the longest name that a pattern asks for."""


def guess_architecture(tensors: Mapping[str, Tensor]) -> str | None:
    """A short title such as `SDXL UNet, diffusers naming`; None if nothing fits."""
    factors = find_factors(tensors, NO_FACTS).values()
    if factors:
        return f"{next(iter(factors)).what} factors"
    # prefixes end at dots, so that matching a pattern is one look-up; prefixes longer than every
    # pattern are left out, so that a long name does not take the square of its length
    prefixes = {name[: dot.end()] for name in tensors for dot in re.finditer(r"\.", name[:LONGEST])}
    is_control = not prefixes.isdisjoint(CONTROLS)
    for pattern in PATTERNS:
        for start in PREFIXES if pattern.is_prefixed else ("",):
            fits = (
                _fits(start + name, sizes, tensors, prefixes) for name, sizes in pattern.tensors
            )
            if all(fits):
                inputs = _inputs(tensors) if pattern.title.startswith(INPUTS_OF) else ""
                title = pattern.title + inputs + _markers(tensors)
                return _of_control(title) if is_control else title
    return CONTROL if is_control else None


CONTROL = "ControlNet"


def _of_control(title: str) -> str:
    """The title of a ControlNet for a model, which has the model's blocks."""
    changed = re.sub("UNet|transformer", CONTROL, title, count=1)
    return changed if changed != title else f"{title}, {CONTROL}"


def _fits(
    name: str, sizes: Mapping[int, int], tensors: Mapping[str, Tensor], prefixes: set[str]
) -> bool:
    if name.endswith("."):
        return name in prefixes
    tensor = tensors.get(name)
    if tensor is None:
        return False
    return all(
        axis < len(tensor.shape) and tensor.shape[axis] == size for axis, size in sizes.items()
    )


def _inputs(tensors: Mapping[str, Tensor]) -> str:
    """The part of a title that the input channels of a UNet give, such as `inpainting`."""
    for name in FIRST:
        if name in tensors and len(shape := tensors[name].shape) == 4 and shape[1] in INPUTS:
            return f", {INPUTS[shape[1]]}"
    return ""


def _markers(tensors: Mapping[str, Tensor]) -> str:
    """The parts of a title that marker tensors give, such as `zero terminal SNR`."""
    return "".join(f", {title}" for name, title in MARKERS if name in tensors)


def difference_hint(
    name: str, tensors: Mapping[str, Tensor], other_name: str, others: Mapping[str, Tensor]
) -> str | None:
    """A hint that two checkpoints have different architectures; None if that is not clear."""
    first, second = guess_architecture(tensors), guess_architecture(others)
    if first is None or second is None or first == second:
        return None
    return f"{name} looks like {first}, {other_name} like {second}"


def shape_hint(first: tuple[int, ...], other: tuple[int, ...]) -> str | None:
    """A hint why two tensors of one name differ in shape; None if no known case fits."""
    if len(first) == len(other) == 4 and {first[1], other[1]} == {4, 9}:
        return "nine input channels are an inpainting model, four an ordinary one"
    return None
