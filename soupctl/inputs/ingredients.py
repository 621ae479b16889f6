"""Open the ingredients of a soup: models found, components paired, headers checked, ledgers read.

Rule 1: what can be refused from headers alone is refused here, before a byte of data is read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import InputError, Issue, LedgerError, MismatchError, UsageError
from ..soup.ledger import KEY, Ledger
from ..soup.ledgertext import IGNORE, parse_ledger
from ..soup.sums import KEY as SUM
from ..storage.checkpoint import Checkpoint, open_checkpoint
from ..storage.digest import text_digest
from ..storage.layout import Component, Model, find_model
from ..storage.safetensors import spool_stream

# what stands in a file's name anyway
NO_VARIANTS = ("", "safetensors", "index", "json")

STREAM = "-"
"""The text that stands for standard input, or standard output; as a `Path` it is a file's name."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A checkpoint that goes in, with its weight."""

    path: str | Path
    weight: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        """Refuse a weight that is only nearly what was meant, with UsageError."""
        if not isinstance(self.weight, int | Fraction):
            raise UsageError(f"{self.weight!r} is not exact", advice="give a Fraction or an int")


@dataclass(frozen=True, slots=True)
class Part:
    """One component of every ingredient, open for reading."""

    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    checkpoints: tuple[Checkpoint, ...]
    ledgers: tuple[Ledger | None, ...]
    """Ledger of each ingredient that is itself a soup."""
    like: Checkpoint | None
    """The checkpoint in a folder whose files a soup in a folder has the names of, if any is."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All ingredients, open: the same components in each."""

    models: tuple[Model, ...]
    parts: tuple[Part, ...]

    def require_unchanged(self) -> None:
        """Raise OutputError if a file was changed or replaced since it was opened."""
        for model in self.models:
            if model.listing is not None:
                model.listing.require_unchanged()
        for part in self.parts:
            for checkpoint in part.checkpoints:
                checkpoint.require_unchanged()
            if part.like is not None:
                part.like.require_unchanged()


@contextmanager
def open_inputs(
    ingredients: Sequence[Ingredient],
    *,
    component: str | None = None,
    variant: str | None = None,
    ignore_ledger: bool = False,
) -> Iterator[Inputs]:
    """The ingredients, open until the context ends.

    Raises UsageError for no ingredient or several streams, InputError for what cannot be read,
    MismatchError for different components, LedgerError for a ledger that is not sound.
    """
    if not ingredients:
        raise UsageError("there is no ingredient", advice="name at least one checkpoint")
    paths = [ingredient.path for ingredient in ingredients]
    if paths.count(STREAM) > 1:
        raise UsageError("standard input can be only one of the ingredients")
    models = tuple(find_input(path, component, variant) for path in paths)
    require_same_components(models)
    with ExitStack() as stack:
        parts = tuple(
            _open_part(stack, models, position, ignore_ledger)
            for position in range(len(models[0].components))
        )
        yield Inputs(models, parts)


def find_input(path: str | Path, component: str | None = None, variant: str | None = None) -> Model:
    """The model at `path`, or the stream on standard input for `-`, found but not opened.

    Raises UsageError for a variant or component that no file has, and what `find_model` raises.
    """
    if variant is not None and (variant in NO_VARIANTS or re.search(r"[./\0]", variant)):
        raise UsageError(f"{variant!r} is no name of a variant", advice="such as fp16")
    if path == STREAM:
        return Model("standard input", (Component("", "standard input", ()),))
    if component is not None and not Path(path).is_dir():
        raise UsageError("--component picks a folder of a pipeline; this is none", path=path)
    return find_model(Path(path), component=component, variant=variant)


def open_input(component: Component, *, mapped: bool = True) -> Checkpoint:
    """The component of a model or stream, opened and validated."""
    if component.files:
        return open_checkpoint(component, mapped=mapped)
    return Checkpoint(component, (spool_stream(sys.stdin.fileno(), component.shown),))


def require_same_components(models: Sequence[Model]) -> None:
    """Raise MismatchError unless all models have the components of the first."""
    first = models[0]
    expected = [component.name for component in first.components]
    issues = [
        Issue(
            f"has {_listed(model)} where {first.shown} has {_listed(first)}",
            model.shown,
            advice="--component picks one of a pipeline's",
        )
        for model in models[1:]
        if [component.name for component in model.components] != expected
    ]
    if issues:
        raise MismatchError.collected(issues)


def _listed(model: Model) -> str:
    names = [component.name for component in model.components]
    return "one checkpoint" if names == [""] else f"components {', '.join(names)}"


def _open_part(stack: ExitStack, models: Sequence[Model], position: int, ignore: bool) -> Part:
    checkpoints: list[Checkpoint] = []
    layouts: list[Checkpoint] = []
    for model in models:
        checkpoint = stack.enter_context(open_input(model.components[position]))
        require_model(checkpoint)
        # ingredients of one layout share its table, so their number hardly costs memory
        if not any(checkpoint.share_layout(other) for other in layouts):
            layouts.append(checkpoint)
        checkpoints.append(checkpoint)
    ledgers = tuple(None if ignore else read_ledger(checkpoint) for checkpoint in checkpoints)
    like = next((each for each in checkpoints if each.component.folder is not None), None)
    return Part(models[0].components[position].name, tuple(checkpoints), ledgers, like)


def is_sum(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint says of itself that it is the sum kept beside a soup."""
    return SUM in checkpoint.metadata


def require_model(checkpoint: Checkpoint) -> None:
    """Raise InputError for a sum, which is no model."""
    if is_sum(checkpoint):
        what = "is the sum kept beside a soup, and no model"
        raise InputError(what, path=checkpoint.shown, advice="name the soup itself")


def read_ledger(checkpoint: Checkpoint) -> Ledger | None:
    """The ledger in a checkpoint's metadata, checked but not yet compared with the tensors."""
    index = checkpoint.component.index
    text = index.metadata.get(KEY) if index is not None else checkpoint.metadata.get(KEY)
    if text is None:
        return None
    if not isinstance(text, str):
        raise LedgerError("its ledger is not a text", path=checkpoint.shown, advice=IGNORE)
    return parse_ledger(text, checkpoint.shown, text_digest)
