"""The executor's input and output as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .chunks import Write
from .code_error import CodeError
from .kept_sum.reader import Source
from .kept_sum.writer import SumOutput
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Order:
    """A plan, the sources that it combines, and where the soup and its sum go."""

    plan: Plan
    sources: Sequence[Source]
    write: Write
    sum: SumOutput | None = None
    """Where the exact sum goes; None if it is not kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Content digests of the sources and of everything that was written."""

    ingredients: tuple[str, ...]
    """For a kept sum among the sources, the digest of its own tensors."""
    soup: str
    taken: tuple[str, ...]
    """Tensors copied from the first ingredient though others have different values."""
    sum: str | None = None
    """Content digest of the sum that was written."""
    error: CodeError | None = None
    """How far quantised weights are off; None if none are quantised."""
