"""The record of the method that made a soup which is not a weighted mean.

Rule 1: with the ingredients, it is all that making the soup again takes.
"""

from __future__ import annotations

from ..choices import MergeMethod
from ..frozen import frozen


@frozen
class MethodRecord:
    """A method, its settings and the order of the models."""

    method: MergeMethod
    settings: tuple[tuple[str, str], ...] = ()
    """Name and exact value of each setting that the method takes, sorted; no weights."""
    order: tuple[str, ...] = ()
    """Content digests of the ingredients as they were named, the base first if there is one."""
    ratios: tuple[str, ...] = ()
    """The ratio of each averaged tensor, by name, where the method finds one."""

    @property
    def text(self) -> str:
        """The method and its settings in words."""
        return " ".join([self.method, *(f"{name}={value}" for name, value in self.settings)])
