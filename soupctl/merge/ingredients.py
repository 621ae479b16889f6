"""Open the ingredients of a soup: models found, components paired, headers checked, ledgers read.

Rule 1: every error that headers alone can show is raised here, before any data is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import ModelFiles
from ..checkpoints.open import STREAM, find_input, open_input, with_same_components
from ..collector import collecting_seldom
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.ledger import Ledger
from ..ledger.read import read_ledger, require_model


@frozen
class Ingredient:
    """A checkpoint to average, with its weight."""

    path: str | Path
    weight: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        """Raise UsageError for a weight that is not exact."""
        if not isinstance(self.weight, int | Fraction):
            raise UsageError(f"{self.weight!r} is not exact", advice="give a Fraction or an int")


def as_ingredient(value: Ingredient | str | Path) -> Ingredient:
    """An ingredient as it is; a path as an ingredient of weight 1."""
    return value if isinstance(value, Ingredient) else Ingredient(value)


def require_several(name: str, value: object) -> None:
    """Raise UsageError for one path in place of a list, whose letters would be taken for paths."""
    if isinstance(value, str | Path):
        raise UsageError(f"{name} is one path, not a list", path=value, advice=f"{name}=[...]")


@frozen
class Donor:
    """One component of a checkpoint that tensors are taken from, open for reading."""

    number: int
    """Its index among all donors that were named."""
    checkpoint: Checkpoint
    ledger: Ledger | None
    """Its ledger, if it is itself a soup or was trained."""


@frozen
class ComponentInputs:
    """One component of every ingredient, open for reading."""

    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    checkpoints: tuple[Checkpoint, ...]
    ledgers: tuple[Ledger | None, ...]
    """Ledger of each ingredient that is itself a soup."""
    layout: Checkpoint | None
    """The first checkpoint in a folder; a soup in a folder names its files like it."""
    donors: tuple[Donor, ...] = ()
    """The donors, in the order in which they were named."""

    @property
    def opened(self) -> tuple[Checkpoint, ...]:
        """Its checkpoints, and those of its donors."""
        return (*self.checkpoints, *(donor.checkpoint for donor in self.donors))


@frozen
class Inputs:
    """All ingredients, open: the same components in each."""

    models: tuple[ModelFiles, ...]
    components: tuple[ComponentInputs, ...]
    donors: tuple[ModelFiles, ...] = ()
    """The donors as they were named."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every weights file of the ingredients and donors."""
        every = (each for component in self.components for each in component.opened)
        return tuple(file for each in every for file in each.component.files)

    def require_unchanged(self) -> None:
        """Raise OutputError if a file was changed or replaced since it was opened."""
        for model in self.models:
            if model.pipeline_index is not None:
                model.pipeline_index.require_unchanged()
        for component in self.components:
            for checkpoint in component.opened:
                checkpoint.require_unchanged()
            if component.layout is not None:
                component.layout.require_unchanged()


@contextmanager
def open_inputs(
    ingredients: Sequence[Ingredient],
    *,
    component: str | None = None,
    variant: str | None = None,
    ignore_ledger: bool = False,
    donors: Sequence[str | Path] = (),
) -> Iterator[Inputs]:
    """The ingredients and donors, open until the context ends.

    Raises UsageError for no ingredient or several streams, InputError for what cannot be read,
    MismatchError for different components, LedgerError for a ledger that is not sound.
    """
    if not ingredients:
        raise UsageError("no ingredients are given", advice="name at least one checkpoint")
    paths = [ingredient.path for ingredient in ingredients]
    if paths.count(STREAM) > 1:
        raise UsageError("standard input can be only one of the ingredients")
    models = with_same_components([find_input(path, component, variant) for path in paths])
    given = [_find_donor(path, component, variant) for path in donors]
    with collecting_seldom(), ExitStack() as stack:
        components = tuple(
            replace(
                _open_component(stack, models, position, ignore_ledger),
                donors=tuple(_open_donors(stack, given, models[0], position, ignore_ledger)),
            )
            for position in range(len(models[0].components))
        )
        yield Inputs(models, components, tuple(given))


def _find_donor(path: str | Path, component: str | None, variant: str | None) -> ModelFiles:
    """The files of a donor; `component` picks one of it if it is a pipeline."""
    if path == STREAM:
        raise UsageError("--take cannot take tensors from standard input", advice="name a file")
    model = find_input(path, None, variant)
    return find_input(path, component, variant) if len(model.components) > 1 else model


def _open_donors(
    stack: ExitStack,
    donors: Sequence[ModelFiles],
    soup: ModelFiles,
    position: int,
    ignore: bool,
) -> Iterator[Donor]:
    """The component of each donor that is of one of the soup's, if it has it.

    Raises UsageError for a single checkpoint beside several components.
    """
    name = soup.components[position].name
    for number, model in enumerate(donors):
        if len(model.components) == 1 and len(soup.components) > 1:
            what = f"is one checkpoint, and {soup.label} has several components"
            raise UsageError(what, path=model.label, advice="--component picks one of them")
        if len(soup.components) == 1 < len(model.components):
            what = f"has several components, and {soup.label} is one checkpoint"
            folders = ", ".join(str(each.path) for each in model.components[:5])
            raise UsageError(what, path=model.label, advice=f"name one of {folders}")
        for component in model.components:
            if component.name == name or len(model.components) == 1:
                checkpoint = stack.enter_context(open_input(component))
                require_model(checkpoint)
                yield Donor(number, checkpoint, None if ignore else read_ledger(checkpoint))


def _open_component(
    stack: ExitStack, models: Sequence[ModelFiles], position: int, ignore: bool
) -> ComponentInputs:
    checkpoints: list[Checkpoint] = []
    layouts: list[Checkpoint] = []
    for model in models:
        checkpoint = stack.enter_context(open_input(model.components[position]))
        require_model(checkpoint)
        # ingredients with equal layouts share one table, so their number hardly costs memory
        if not any(checkpoint.share_layout(other) for other in layouts):
            layouts.append(checkpoint)
        checkpoints.append(checkpoint)
    ledgers = tuple(None if ignore else read_ledger(checkpoint) for checkpoint in checkpoints)
    layout = next((each for each in checkpoints if each.component.folder is not None), None)
    return ComponentInputs(models[0].components[position].name, tuple(checkpoints), ledgers, layout)
