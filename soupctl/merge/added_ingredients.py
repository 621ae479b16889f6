"""What is added to a component of a soup, as entries of its ledger.

Rule 1: an added soup is added as its own ingredients, unless the request says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component
from ..errors import LedgerError, MismatchError
from ..frozen import frozen
from ..ledger.block_weights import WeightByBlock
from ..ledger.changes import expanded
from ..ledger.entries import moved
from ..ledger.ledger import IngredientEntry, Ledger, PipelineShare
from ..ledger.ledger_json import IGNORE
from ..ledger.locate import dtype_runs, hint_from
from ..ledger.names import unique_names
from ..ledger.read import is_delta, require_model
from ..lora.modules import is_adapter
from .delta.reader import DeltaReader
from .kept_sum.opened import OpenedSum, open_sum
from .opened_inputs import OpenedInputs, folder_of
from .revision import AddedPipeline, Addition, ComponentChange
from .sources import is_added
from .verified_ledger import require_ledger


@frozen
class AddedIngredients:
    """One added checkpoint, as the entries that it adds."""

    entries: tuple[tuple[str, IngredientEntry], ...]
    """The added entries, each with its name in messages."""
    ledger: Ledger | None
    """Its own, if it was trained or is a soup."""
    exact: bool = True
    sum: OpenedSum | None = None
    is_alone: bool = False
    """Whether it is added as an ingredient itself, not as its ingredients."""


def added_ingredients(
    change: ComponentChange, before: Ledger, freed: WeightByBlock | None
) -> Iterator[AddedIngredients]:
    """Each added checkpoint, with the weight `freed` if no other was requested."""
    names = unique_names(change.added_paths, [entry.name for entry in before.ingredients])
    for addition, checkpoint, name, beside, whole in zip(
        change.additions,
        change.added,
        names,
        change.added_sums,
        change.added_pipelines,
        strict=True,
    ):
        _require_addable(before, checkpoint, change.soup.label)
        weight = _wanted(addition, freed)
        if whole.ledger is not None and whole.is_soup and change.revision.expand:
            yield _ingredients_of(change, checkpoint, weight, beside, whole.ledger)
        else:
            yield _ingredient(change.inputs, checkpoint, name, weight, whole)


def _require_addable(before: Ledger, checkpoint: Checkpoint, soup: str) -> None:
    """Raise InputError or MismatchError for a checkpoint that cannot be added to such a soup.

    That is a delta in a mean, and a model, or a delta of another base, where deltas are applied.
    """
    if not before.is_applied or not (before.base is not None or is_added(checkpoint)):
        require_model(checkpoint)
        return
    if not is_delta(checkpoint) and is_adapter(checkpoint.tensors):
        return
    if not is_delta(checkpoint):
        what = f"is a model, and {soup} is a base with deltas"
        advice = "make a delta of it with soupctl delta FINE BASE"
        raise MismatchError(what, path=checkpoint.label, advice=advice)
    known = (before.ancestors.get(entry.digest) for entry in before.ingredients)
    bases = {each.base for each in known if each is not None and each.is_delta}
    bases |= {entry.digest for entry in before.models}
    if DeltaReader(checkpoint).ledger.base not in bases:
        what = f"is a delta of another base than that of {soup}"
        advice = "make the soup again with soupctl apply --other-base"
        raise MismatchError(what, path=checkpoint.label, advice=advice)


def _wanted(addition: Addition, freed: WeightByBlock | None) -> WeightByBlock | None:
    """The weight that is added; None for the checkpoint's own weight.

    A swap keeps the proportions of the weight between blocks.
    """
    if addition.weight is None:
        return freed
    if freed is None or not freed.blocks:
        return WeightByBlock(addition.weight)
    if not freed.usual:
        what = "replaces an ingredient that has weight in some blocks only"
        raise LedgerError(what, path=addition.path, advice="leave out its weight")
    return freed * (addition.weight / freed.usual)


def _ingredient(
    inputs: OpenedInputs,
    checkpoint: Checkpoint,
    name: str,
    weight: WeightByBlock | None,
    whole: AddedPipeline,
) -> AddedIngredients:
    """A checkpoint that is not a soup."""
    digest = checkpoint_digest(checkpoint)
    inputs.by_digest[digest] = checkpoint
    trained = inputs.ledger(checkpoint) is not None
    ledger = require_ledger(inputs, checkpoint, if_unfit=IGNORE) if trained else None
    weight = WeightByBlock(Fraction(1)) if weight is None else weight
    entry = entry_of(digest, name, weight, checkpoint, whole.digest)
    exact = ledger is None or ledger.exact
    return AddedIngredients(((checkpoint.label, entry),), ledger, exact, is_alone=True)


def _ingredients_of(
    change: ComponentChange,
    soup: Checkpoint,
    weight: WeightByBlock | None,
    beside: Component | None,
    ledger: Ledger,
) -> AddedIngredients:
    """An added soup: its ingredients, located by its own ledger, and its sum."""
    inputs = change.inputs
    require_ledger(inputs, soup, if_unfit=IGNORE)
    old, new = folder_of(soup), folder_of(change.soup)
    entries = []
    for entry in expanded(ledger, weight):
        inputs.find(entry, soup)
        entries.append(moved(entry, lambda hint: hint_from(hint, old, new)))
    kept = None
    if beside is not None:
        kept = open_sum(inputs, beside, soup, ledger)
        is_scaled = not any(entry.blocks for entry in entries)
        kept = kept.reweighted(tuple(entries)) if is_scaled else None
    labelled = tuple((f"{entry.name} of {soup.label}", entry) for entry in entries)
    return AddedIngredients(labelled, ledger, ledger.exact, kept)


def entry_of(
    digest: str, name: str, weights: WeightByBlock, checkpoint: Checkpoint, pipeline: str | None
) -> IngredientEntry:
    """The entry of a checkpoint that is not a soup; with a share for a pipeline's component."""
    usual, blocks = weights.usual, weights.blocks
    shares = () if pipeline is None else (PipelineShare(pipeline, name, None, usual, blocks),)
    dtypes = dtype_runs(checkpoint)
    return IngredientEntry(digest, name, None, usual, dtypes, pipelines=shares, blocks=blocks)
