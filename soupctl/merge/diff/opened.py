"""Opening checkpoints to compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ...workers import require_room_to_compute
from ..ingredients import ComponentInputs, Ingredient, open_inputs
from ..recipe import Recipe, require_matches, selector


class TensorChoice(Protocol):
    """Which tensors of checkpoints are compared."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Globs; a tensor is compared if one matches its name, or if there are none."""

    @property
    def excludes(self) -> tuple[str, ...]:
        """Globs; a tensor is left out if one matches its name."""

    @property
    def component(self) -> str | None:
        """The only component of a pipeline; None for all of them."""

    @property
    def variant(self) -> str | None:
        """The variant of the files that is preferred."""


@contextmanager
def open_to_compare(
    paths: Sequence[str | Path], choice: TensorChoice
) -> Iterator[tuple[tuple[ComponentInputs, ...], Callable[[str], bool]]]:
    """The components of all checkpoints, open, and whether a tensor is to be compared.

    Raises InputError for an unreadable or unsound file, MismatchError for other components,
    UsageError for a glob that matches no tensor, OutputError for a file that changes meanwhile.
    """
    require_room_to_compute()
    recipe = Recipe((), keys=choice.keys, excludes=choice.excludes)
    with open_inputs(
        [Ingredient(path) for path in paths],
        component=choice.component,
        variant=choice.variant,
        ignore_ledger=True,
    ) as inputs:
        every = (each for component in inputs.components for each in component.checkpoints)
        if recipe.keys or recipe.excludes:
            require_matches(recipe, {name for each in every for name in each.tensors})
        yield inputs.components, selector(recipe)
        inputs.require_unchanged()
