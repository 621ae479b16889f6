"""The candidates of a greedy soup: what was kept, and one ingredient more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..checkpoints.hashing import ignore_progress
from ..checkpoints.open import find_input
from ..errors import MismatchError
from ..merge.average import Request, average
from ..merge.ingredients import Ingredient, as_ingredient
from ..merge.revise import revise
from ..merge.revision import Addition, Revision
from ..workers import ExecutionOptions
from .scratch import ScratchFolder
from .trials import SoupTrial

LEFT_OUT = "0"


class GreedyCandidates:
    """Makes the candidates: soups of the kept ingredients, whose exact sum it has, and others."""

    def __init__(
        self, request: Request, scratch: ScratchFolder, execution: ExecutionOptions | None
    ) -> None:
        self.ingredients = tuple(map(as_ingredient, request.ingredients))
        """All that may be chosen."""
        self._request = request
        self._scratch = scratch
        self._execution = execution
        self._members: frozenset[int] = frozenset()
        self._soup: Path | None = None
        """The soup of the members, with its kept sum."""

    def trial(self, members: frozenset[int]) -> SoupTrial:
        """The trial of a soup of these ingredients."""
        label = " + ".join(str(self.ingredients[place].path) for place in sorted(members))
        weights = (
            str(each.weight) if place in members else LEFT_OUT
            for place, each in enumerate(self.ingredients)
        )
        return SoupTrial(label, tuple(weights))

    def average(self, members: frozenset[int], *, keep_sum: bool) -> Path:
        """A new soup of these, made from all of them."""
        place = self._scratch.place()
        chosen = [self.ingredients[each] for each in sorted(members)]
        request = replace(self._request, ingredients=chosen, output=place, keep_sum=keep_sum)
        average(request, execution=self._execution)
        return place

    def averaging(self, members: frozenset[int], place: Path) -> Callable[[], object]:
        """A call for another process: it makes a soup of these at a place."""
        chosen = [self.ingredients[each] for each in sorted(members)]
        request = replace(self._request, ingredients=chosen, output=place, keep_sum=False)
        return partial(average, request, force=True, execution=self._elsewhere)

    def adding(self, member: int, place: Path) -> Callable[[], object]:
        """A call for another process: it makes a soup of the members and one more at a place."""
        instead = self.averaging(self._members | {member}, place)
        revision = self._revision(member, place, keep_sum=False)
        return partial(_add_or, revision, instead, self._elsewhere)

    @property
    def _elsewhere(self) -> ExecutionOptions:
        """The options of a pass in another process."""
        options = self._execution or ExecutionOptions()
        return replace(options, threads=1, progress=ignore_progress)

    def add(self, member: int, *, keep_sum: bool = False) -> Path:
        """A new soup of the members and one more, which is all that is read besides their sum."""
        try:
            return self._add_to_sum(member, keep_sum=keep_sum)
        except MismatchError:
            # the configs of a component say less outside its pipeline than in it
            return self.average(self._members | {member}, keep_sum=keep_sum)

    def _add_to_sum(self, member: int, *, keep_sum: bool) -> Path:
        place = self._scratch.place()
        revise(self._revision(member, place, keep_sum=keep_sum), execution=self._execution)
        return place

    def _revision(self, member: int, place: Path, *, keep_sum: bool) -> Revision:
        """The change that adds one more to the members."""
        assert self._soup is not None
        added, request = self.ingredients[member], self._request
        return Revision(
            "add",
            self._soup,
            place,
            added=[Addition(_component_path(added, request), added.weight)],
            again=True,
            expand=False,
            keep_sum=keep_sum,
            variant=request.variant,
        )

    def hold(self, members: frozenset[int]) -> None:
        """Make these the members, and their soup with its sum."""
        if self._soup is not None and self._members == members:
            return
        new = members - self._members
        if self._soup is not None and len(new) == 1 and self._members < members:
            made = self.add(*new, keep_sum=True)
        else:
            made = self.average(members, keep_sum=True)
        if self._soup is not None:
            self._scratch.remove(self._soup)
        self._members, self._soup = members, made


def _add_or(revision: Revision, instead: Callable[[], object], execution: ExecutionOptions) -> None:
    """Make the changed soup, or what `instead` makes if the change is refused."""
    try:
        revise(revision, force=True, execution=execution)
    except MismatchError:
        # the configs of a component say less outside its pipeline than in it
        instead()


def _component_path(ingredient: Ingredient, request: Request) -> str | Path:
    """The path of the part of an ingredient that the soup is made of."""
    if request.component is None:
        return ingredient.path
    (only,) = find_input(ingredient.path, request.component, request.variant).components
    return only.path
