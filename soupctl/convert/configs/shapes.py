"""The shapes of the tensors of a model, and how many blocks it has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import gcd

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of the tensors of a model by their names in diffusers."""


def counted(shapes: Shapes, start: str) -> int:
    """The number of blocks whose names begin with `start` and a number."""
    pattern = re.compile(rf"{re.escape(start)}(\d+)\.")
    found = [int(match[1]) for name in shapes if (match := pattern.match(name))]
    return max(found, default=-1) + 1


def size(shapes: Shapes, name: str, axis: int, otherwise: int = 0) -> int:
    """One size of a tensor; `otherwise` if there is no such tensor or axis."""
    shape = shapes.get(name, ())
    return shape[axis] if -len(shape) <= axis < len(shape) else otherwise


def first(shapes: Shapes, end: str) -> tuple[int, ...]:
    """The shape of the first tensor whose name ends so; empty if there is none."""
    return next((shapes[name] for name in sorted(shapes) if name.endswith(end)), ())


def widths(shapes: Shapes, levels: str) -> Iterator[int]:
    """The channels of each level of blocks."""
    for number in range(counted(shapes, levels)):
        yield size(shapes, f"{levels}{number}.resnets.0.conv1.weight", 0)


def groups(channels: list[int]) -> int:
    """The groups of norms: 32, or as many as divide the channels of a smaller model."""
    return gcd(32, *channels) or 1
