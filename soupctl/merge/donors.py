"""Donors: checkpoints that `--take` takes tensors from, and that are not ingredients.

Rule 1: a donor gives the tensors that are taken from it, under the names of the soup, and nothing
else; yet all of it is digested.
Rule 2: a donor is known by its content digest like an ingredient; its weight is 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.open import STREAM
from ..frozen import frozen
from ..kinds.names import donor_renaming
from .aligned import Alignment, align, renamed_by
from .ingredients import ComponentInputs, Donor, Ingredient
from .kept_sum.reader import AlignedCheckpoint
from .recipe import Recipe, first_match, is_partial, selector
from .sources import Source, checkpoints_of


@frozen
class Take:
    """A glob, and the source of the tensors that it matches."""

    glob: str
    ingredient: int | None
    """The index of an ingredient."""
    donor: int = -1
    """Otherwise the index of a donor."""


def sort_takes(
    given: Sequence[tuple[str, str | Path]], ingredients: Sequence[str | Path]
) -> tuple[tuple[Take, ...], tuple[str | Path, ...]]:
    """The takes with the indices of their sources, and the donors, each once."""
    places = {_place(path): n for n, path in reversed([*enumerate(ingredients)])}
    donors: dict[str, str | Path] = {}
    takes = []
    for glob, path in given:
        place = _place(path)
        if place in places:
            takes.append(Take(glob, places[place]))
        else:
            donors.setdefault(place, path)
            takes.append(Take(glob, None, [*donors].index(place)))
    return tuple(takes), tuple(donors.values())


def donors_named(
    given: Sequence[tuple[str, str | Path]], ingredients: Sequence[Ingredient]
) -> tuple[str | Path, ...]:
    """The donors to open beside the ingredients."""
    _, donors = sort_takes(given, [ingredient.path for ingredient in ingredients])
    return donors


def _place(path: str | Path) -> str:
    # a name that no file can have is refused where it is opened
    is_name = path != STREAM and "\0" not in str(path)
    return os.path.realpath(path) if is_name else str(path)


def donors_of(component: ComponentInputs) -> list[Checkpoint]:
    """The checkpoints of a component's donors."""
    return [donor.checkpoint for donor in component.donors]


def taken_in(component: ComponentInputs, takes: Sequence[Take]) -> tuple[tuple[str, int], ...]:
    """The globs that take tensors of a component, with the indices of the sources."""
    places = {
        donor.number: n for n, donor in enumerate(component.donors, len(component.checkpoints))
    }
    found = [
        (each.glob, places.get(each.donor) if each.ingredient is None else each.ingredient)
        for each in takes
    ]
    return tuple((glob, place) for glob, place in found if place is not None)


def giving(
    component: ComponentInputs, every: Alignment, takes: Sequence[Take]
) -> tuple[Donor, ...]:
    """The donors that give tensors to a component; `every` has all of them."""
    taken_from = first_match(taken_in(component, takes))
    places = enumerate(every.sources[len(component.checkpoints) :], len(component.checkpoints))
    given = [any(taken_from(name) == n for name in source.tensors) for n, source in places]
    return tuple(donor for donor, gives in zip(component.donors, given, strict=True) if gives)


def aligned_sources(sources: Sequence[Source], recipe: Recipe, like: Collection[str]) -> Alignment:
    """The sources of a soup under its names; donors come last."""
    ingredients = [each.checkpoint for each in sources if not each.is_donor]
    alignment = align(ingredients, selector(recipe), like, is_partial=is_partial(recipe))
    donors = checkpoints_of([each for each in sources if each.is_donor])
    return with_donors(alignment, donors, recipe.takes)


def with_donors(
    alignment: Alignment, donors: Sequence[Checkpoint], takes: Sequence[tuple[str, int]]
) -> Alignment:
    """The alignment with donors as its last sources, under the names of the ingredients.

    `takes` are globs with the indices of sources among all.
    """
    if not donors:
        return alignment
    wanted = {name for source in alignment.sources for name in source.tensors}
    taken_from = first_match(takes)
    found = []
    for place, donor in enumerate(donors, len(alignment.sources)):
        found.append(donor_renaming(wanted, donor.tensors, partial(_is_from, taken_from, place)))
    sources = [
        donor if each is None else AlignedCheckpoint(donor, renamed_by(donor.tensors, each))
        for donor, each in zip(donors, found, strict=True)
    ]
    return replace(
        alignment,
        sources=(*alignment.sources, *sources),
        renamed=(*alignment.renamed, *(None if each is None else each.what for each in found)),
        donors=len(donors),
    )


def _is_from(taken_from: Callable[[str], int | None], place: int, name: str) -> bool:
    return taken_from(name) == place
