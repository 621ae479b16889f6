"""A part of a recipe that is one pass, as a value."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from ...frozen import frozen
from .document import RecipeDocument
from .lock import Lock


@frozen
class Stage:
    """A part of a recipe that is one pass and one output."""

    document: RecipeDocument
    output: str | Path
    pins: Lock
    """The digests that its inputs must have."""
    keep_sum: bool = False
    found: dict[str, dict[str, str]] = field(default_factory=dict)
    """The content digests of its inputs by name and component, once they are read."""
