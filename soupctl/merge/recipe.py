"""The request for a soup, reduced to everything that can change a number."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from fractions import Fraction

from ..choices import OnInt
from ..format.dtypes import DType


@dataclass(frozen=True, slots=True)
class Recipe:
    """How ingredients become a soup."""

    weights: tuple[Fraction, ...]
    """Asked weight of each ingredient, in the order of the inputs."""
    dtype: DType | None = None
    """Asked float dtype of the result; None for the narrowest that holds the ingredients."""
    keys: tuple[str, ...] = ()
    """Globs; a tensor is in the soup if one of them matches its name, or if there are none."""
    excludes: tuple[str, ...] = ()
    """Globs; a tensor that one of them matches is not in the soup."""
    on_int: OnInt = OnInt.REFUSE
    allow_nonfinite: bool = False


def selector(recipe: Recipe) -> Callable[[str], bool]:
    """Whether a tensor of that name is in the soup."""
    keys = [re.compile(translate(glob)).match for glob in recipe.keys]
    excludes = [re.compile(translate(glob)).match for glob in recipe.excludes]

    def selected(name: str) -> bool:
        wanted = not keys or any(match(name) for match in keys)
        return wanted and not any(match(name) for match in excludes)

    return selected
