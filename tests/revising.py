"""Soups made and changed in one line each, for tests of what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from making import save

from soupctl import verbs
from soupctl.verbs import (
    Addition,
    ComponentResult,
    ExecutionOptions,
    Ingredient,
    Level,
    Removal,
    Request,
    Revision,
    Verified,
)

Weighted = str | Path | tuple[str | Path, Fraction | int]
"""A path or name, or such with its weight."""


def average(
    output: str | Path,
    *ingredients: Weighted,
    force: bool = False,
    execution: ExecutionOptions | None = None,
    **options: Any,
) -> ComponentResult:
    """The last component of a soup of these, each of weight 1 unless it is given."""
    pairs = [each if isinstance(each, tuple) else (each, 1) for each in ingredients]
    request = Request([Ingredient(path, Fraction(w)) for path, w in pairs], output, **options)
    return verbs.average(request, force=force, execution=execution)[-1]


def revise(
    operation: str,
    soup: str | Path,
    output: Path,
    added: Sequence[Weighted] = (),
    removed: Sequence[Weighted] = (),
    *,
    force: bool = False,
    execution: ExecutionOptions | None = None,
    **options: Any,
) -> ComponentResult:
    """The last component of the changed soup."""
    additions = [Addition(*_pair(each)) for each in added]
    removals = [Removal(str(what), weight) for what, weight in map(_pair, removed)]
    revision = Revision(operation, soup, output, additions, removals, **options)
    return verbs.revise(revision, force=force, execution=execution)[-1]


def _pair(each: Weighted) -> tuple[str | Path, Fraction | None]:
    return (each[0], Fraction(each[1])) if isinstance(each, tuple) else (each, None)


def assert_proven(*soups: str | Path) -> None:
    """Everything there is to prove of these soups and sums is."""
    for soup in soups:
        found = [(each.problem, each.level) for each in verbs.verify(soup)]
        assert [(None, Level.REBUILD)] * len(found) == found


def root(path: str | Path) -> str:
    """The content digest of the one checkpoint at a path."""
    (found,) = verbs.content_digests(path)
    return found.digest


def save_changed_soup() -> Path:
    """A soup of a and c after b was taken out again, of a soup of soups, in the working folder."""
    generator = np.random.default_rng(11)
    for name in "abcx":
        save(Path(f"{name}.st"), w=generator.normal(0, 1, 20).astype(np.float16), ids=np.arange(3))
    average(Path("inner.st"), "x.st", "c.st")
    average(Path("1.st"), "a.st", ("b.st", 2), "inner.st")
    revise("subtract", "1.st", Path("soup.st"), (), ["b.st"])
    return Path("soup.st")


def verified(path: Path, *ingredients: str, **options: Any) -> Verified:
    """How far a soup of one file is proven."""
    (found,) = verbs.verify(path, ingredients, **options)
    return found
