"""The request for a soup, reduced to everything that can change a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import translate
from fractions import Fraction
from typing import TypeVar

from ..choices import OnInt, OnMissing, Quantization
from ..errors import Issue, UsageError
from ..format.dtypes import DType
from ..ledger.block_weights import WeightByBlock
from ..ledger.ledger_json import LONGEST_GLOB, MOST_GLOBS

Value = TypeVar("Value")


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
    quantize: Quantization | None = None
    """How the weights of linear layers are stored; None for as floats of the result's dtype."""
    on_int: OnInt = OnInt.REFUSE
    allow_nonfinite: bool = False
    blocks: tuple[tuple[str, tuple[Fraction, ...]], ...] = ()
    """Globs, each with the weights of the tensors that it is the first to match; an ingredient of
    weight 0 is left out of them."""
    on_missing: OnMissing = OnMissing.REFUSE
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs, each with the float dtype of the averaged tensors that it is the first to match."""
    takes: tuple[tuple[str, int], ...] = ()
    """Globs, each with the index of the one ingredient whose tensors are taken; the first match
    counts."""

    def __post_init__(self) -> None:
        """Raise UsageError for globs that no ledger may hold, and codes of what is no number."""
        if self.quantize is not None and self.allow_nonfinite:
            raise UsageError("--quantize and --allow-nonfinite exclude each other")
        paired = (glob for glob, _ in (*self.dtype_for, *self.takes))
        blocks = tuple(glob for glob, _ in self.blocks)
        for globs in (self.keys, self.excludes, tuple(paired), blocks):
            if len(globs) > MOST_GLOBS:
                raise UsageError(f"{len(globs)} globs are given, and at most {MOST_GLOBS} are read")
            for glob in globs:
                if len(glob) > LONGEST_GLOB:
                    what = f"a glob of {len(glob)} characters is longer than {LONGEST_GLOB}"
                    raise UsageError(what, advice=f"shorten {glob[:20]}...")


def columns_of(
    globs: Sequence[str], weights: Sequence[WeightByBlock]
) -> tuple[tuple[str, tuple[Fraction, ...]], ...]:
    """The globs of blocks, each with the weight of every ingredient; none if all weigh the same."""
    if not any(each.blocks for each in weights):
        return ()
    columns = zip(*(each.spread(len(globs)) for each in weights), strict=True)
    return tuple(zip(globs, columns, strict=True))


def is_partial(recipe: Recipe) -> bool:
    """Whether ingredients may lack tensors of the soup."""
    return recipe.on_missing is not OnMissing.REFUSE or bool(recipe.takes)


def first_match(pairs: Sequence[tuple[str, Value]]) -> Callable[[str], Value | None]:
    """What is paired with the first glob that matches a name; None if none does."""
    matches = [(re.compile(translate(glob)).match, value) for glob, value in pairs]
    return lambda name: next((value for match, value in matches if match(name)), None)


def selector(recipe: Recipe) -> Callable[[str], bool]:
    """Whether a tensor of that name is in the soup."""
    keys = [re.compile(translate(glob)).match for glob in recipe.keys]
    excludes = [re.compile(translate(glob)).match for glob in recipe.excludes]

    def selected(name: str) -> bool:
        wanted = not keys or any(match(name) for match in keys)
        return wanted and not any(match(name) for match in excludes)

    return selected


COMPARED = 2000
"""Most names that a pattern without a match is compared with, which takes time."""
LONGEST = 200
"""Longest name that is compared."""


def require_matches(recipe: Recipe, names: Collection[str]) -> None:
    """Raise UsageError for the patterns that match none of the `names`, a typing error as a rule.

    It says which names are similar.
    """
    issues = []
    paired = (
        ("--dtype-for", tuple(glob for glob, _ in recipe.dtype_for)),
        ("--take", tuple(glob for glob, _ in recipe.takes)),
    )
    for option, patterns in (("--key", recipe.keys), ("--exclude", recipe.excludes), *paired):
        for pattern in patterns:
            if not any(map(re.compile(translate(pattern)).match, names)):
                what = f"{option} {pattern!r} matches no tensor"
                issues.append(Issue(what, advice=meant_by(pattern, names)))
    if issues:
        raise UsageError.collected(issues)


def meant_by(pattern: str, names: Collection[str], known: Collection[str] = ()) -> str:
    """What to write for a pattern that matches nothing; `known` words may be meant, too."""
    if near := get_close_matches(pattern[:LONGEST], known, 3):
        return f"similar: {', '.join(near)}"
    stem = re.sub(r"[*?]+", "*", pattern).strip("*")
    if stem and "[" not in stem and any(stem in name for name in names):
        return f"'*{stem}*' would match"
    plain = stem.rstrip(".")
    parts = plain.count(".") + 1
    short = sorted(name for name in names if len(name) <= LONGEST)
    prefixes = dict.fromkeys(".".join(name.split(".", parts)[:parts]) for name in short)
    for candidates in (list(prefixes), short):
        if near := get_close_matches(plain, candidates[:COMPARED], 3):
            return f"similar: {', '.join(near)}"
    return "soupctl inspect shows the names"
