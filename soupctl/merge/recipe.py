"""The recipe of a soup: the part of a request that can change a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from fnmatch import translate
from fractions import Fraction
from typing import TypeVar

from ..choices import OnInt, OnMissing, Quantization
from ..errors import Issue, UsageError
from ..format.dtypes import DType
from ..frozen import frozen
from ..ledger.block_weights import WeightByBlock
from ..ledger.json_values import LONGEST_GLOB, MOST_GLOBS

Value = TypeVar("Value")


@frozen
class Recipe:
    """The rules by which ingredients become a soup."""

    weights: tuple[Fraction, ...]
    """Requested weight of each ingredient, in the order of the inputs."""
    dtype: DType | None = None
    """Requested float dtype of the result; None for the narrowest that holds the ingredients."""
    keys: tuple[str, ...] = ()
    """Globs; a tensor is in the soup if one matches its name, or if there are no globs."""
    excludes: tuple[str, ...] = ()
    """Globs; a tensor is left out if one matches its name."""
    quantize: Quantization | None = None
    """The quantisation of linear layers; None to store floats of the result's dtype."""
    on_int: OnInt = OnInt.REFUSE
    allow_nonfinite: bool = False
    blocks: tuple[tuple[str, tuple[Fraction, ...]], ...] = ()
    """Globs, each with the weights of the tensors that it is the first to match; an ingredient of
    weight 0 is left out of them."""
    on_missing: OnMissing = OnMissing.REFUSE
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs with the float dtype of averaged tensors that match; the first match counts."""
    takes: tuple[tuple[str, int], ...] = ()
    """Globs, each with the index of the one source whose tensors are taken; the first match counts.
    Sources are the ingredients, and after them donors, which give nothing else."""
    pads: tuple[str, ...] = ()
    """Globs of tensors that are padded with zeros to the input channels of the widest."""
    config_from: int | None = None
    """Index of the ingredient whose configs are used."""
    normalize: bool = True
    """Whether the weighted sum is divided by the total weight."""

    def __post_init__(self) -> None:
        """Raise UsageError for options that exclude each other, and too many or too long globs."""
        if self.quantize is not None and self.allow_nonfinite:
            raise UsageError("--quantize and --allow-nonfinite exclude each other")
        if not self.normalize and self.on_missing is not OnMissing.REFUSE:
            what = "a sum that is not normalized needs tensors that all inputs have"
            raise UsageError(what, advice="leave out on-missing")
        paired = (glob for glob, _ in (*self.dtype_for, *self.takes))
        blocks = tuple(glob for glob, _ in self.blocks)
        for globs in (self.keys, self.excludes, self.pads, tuple(paired), blocks):
            if len(globs) > MOST_GLOBS:
                raise UsageError(f"{len(globs)} globs are given, and at most {MOST_GLOBS} are read")
            for glob in globs:
                if len(glob) > LONGEST_GLOB:
                    what = f"a glob of {len(glob)} characters is longer than {LONGEST_GLOB}"
                    raise UsageError(what, advice=f"shorten {glob[:20]}...")


def columns_of(
    globs: Sequence[str], weights: Sequence[WeightByBlock]
) -> tuple[tuple[str, tuple[Fraction, ...]], ...]:
    """The globs of blocks, each with the weight of every ingredient; empty without blocks."""
    if not any(each.blocks for each in weights):
        return ()
    columns = zip(*(each.spread(len(globs)) for each in weights), strict=True)
    return tuple(zip(globs, columns, strict=True))


def is_partial(recipe: Recipe) -> bool:
    """Whether ingredients may lack tensors of the soup."""
    return recipe.on_missing is not OnMissing.REFUSE or bool(recipe.takes)


def has_globs(recipe: Recipe) -> bool:
    """Whether a recipe selects anything by name."""
    return bool(recipe.keys or recipe.excludes or recipe.dtype_for or recipe.takes or recipe.pads)


def first_match(pairs: Sequence[tuple[str, Value]]) -> Callable[[str], Value | None]:
    """The value of the first glob that matches a name; None if none does."""
    if not pairs:
        return lambda name: None
    matches = [(re.compile(translate(glob)).match, value) for glob, value in pairs]
    return lambda name: next((value for match, value in matches if match(name)), None)


def any_match(globs: Sequence[str]) -> Callable[[str], bool]:
    """Whether any of the globs matches a name."""
    if not globs:
        return lambda name: False
    match = re.compile("|".join(map(translate, globs))).match
    return lambda name: match(name) is not None


def selector(recipe: Recipe) -> Callable[[str], bool]:
    """Whether a tensor of that name is in the soup."""
    if not recipe.keys and not recipe.excludes:
        return lambda name: True
    is_included, is_excluded = any_match(recipe.keys), any_match(recipe.excludes)
    return lambda name: (not recipe.keys or is_included(name)) and not is_excluded(name)


COMPARED = 2000
"""Most names that an unmatched pattern is compared with, which takes time."""
LONGEST = 200
"""Longest name that is compared."""


def require_matches(recipe: Recipe, names: Collection[str]) -> None:
    """Raise UsageError, with similar names, for patterns that match none of the `names`."""
    issues = []
    paired = (
        ("--dtype-for", tuple(glob for glob, _ in recipe.dtype_for)),
        ("--take", tuple(glob for glob, _ in recipe.takes)),
    )
    given = (("--key", recipe.keys), ("--exclude", recipe.excludes), ("--pad", recipe.pads))
    for option, patterns in (*given, *paired):
        for pattern in patterns:
            if not any(map(re.compile(translate(pattern)).match, names)):
                what = f"{option} {pattern!r} matches no tensor"
                issues.append(Issue(what, advice=meant_by(pattern, names)))
    if issues:
        raise UsageError.collected(issues)


def meant_by(pattern: str, names: Collection[str], known: Collection[str] = ()) -> str:
    """A suggestion for a pattern that matches nothing; `known` words are considered, too."""
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
