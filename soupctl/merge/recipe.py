"""The request for a soup, reduced to everything that can change a number."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from fractions import Fraction

from ..choices import OnInt
from ..errors import UsageError
from ..format.dtypes import DType
from ..ledger.ledger_json import LONGEST_GLOB, MOST_GLOBS


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

    def __post_init__(self) -> None:
        """Raise UsageError for more or longer globs than a ledger may hold."""
        for globs in (self.keys, self.excludes):
            if len(globs) > MOST_GLOBS:
                raise UsageError(f"{len(globs)} globs are given, and at most {MOST_GLOBS} are read")
            for glob in globs:
                if len(glob) > LONGEST_GLOB:
                    what = f"a glob of {len(glob)} characters is longer than {LONGEST_GLOB}"
                    raise UsageError(what, advice=f"shorten {glob[:20]}...")


def selector(recipe: Recipe) -> Callable[[str], bool]:
    """Whether a tensor of that name is in the soup."""
    keys = [re.compile(translate(glob)).match for glob in recipe.keys]
    excludes = [re.compile(translate(glob)).match for glob in recipe.excludes]

    def selected(name: str) -> bool:
        wanted = not keys or any(match(name) for match in keys)
        return wanted and not any(match(name) for match in excludes)

    return selected
