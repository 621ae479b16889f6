"""Finding the sum that is kept beside a soup, and checking that it fits.

Rule 1: a sum fits a soup if it describes the same tensors, made of the same ingredients in the same
proportions; a sum beside a soup that does not fit is refused, not ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ...checkpoints.checkpoint import Checkpoint, open_checkpoint
from ...checkpoints.digest import text_digest
from ...checkpoints.layout import Component, ModelFiles, find_model
from ...checkpoints.open import STREAM
from ...errors import (
    InputError,
    LedgerError,
    OutputError,
    SoupError,
    UnreadableError,
    UsageError,
)
from ...format.header import Tensor
from ...frozen import frozen
from ...ledger.block_weights import WeightByBlock, summed
from ...ledger.ledger import LEDGER_KEY, SUM_KEY, IngredientEntry, Ledger, Runs
from ...ledger.read import is_sum, read_ledger
from ...ledger.weights import LARGEST
from ...storage.regular import reading
from ..opened_inputs import OpenedInputs
from ..plan import Plan
from ..recipe import Recipe
from ..step_weights import StepWeights
from .by_block import scaled_by_block
from .format import NO_SUM, REMOVE, SUFFIX, Facts, parse_facts, sum_name
from .reader import SumReader, soup_names
from .sum_weights import sum_weights

ONLY = "sum"
"""Stem of the name of the only file in the folder of a sum."""


@frozen
class OpenedSum:
    """The open sum of one component of a soup, which fits it."""

    reader: SumReader
    ledger: Ledger
    """The soup's ledger."""
    facts: Facts
    scale: Fraction
    """The sum is that of the ingredients times their weights in `ledger`, times this."""

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.reader.label

    @property
    def denominators(self) -> dict[str, int]:
        """Those of the scales of its adapters, by content digest, unless they are 1."""
        return denominators_of(self.facts, self.ledger)

    @property
    def dtypes(self) -> dict[str, Runs]:
        """The recorded dtypes of its ingredients, by content digest."""
        digests = [entry.digest for entry in self.ledger.ingredients]
        return dict(zip(digests, self.facts.dtypes, strict=True))

    def reweighted(self, ingredients: tuple[IngredientEntry, ...]) -> OpenedSum:
        """The same sum for ingredients of other weights in the same proportions."""
        ledger = replace(self.ledger, ingredients=ingredients)
        return replace(self, ledger=ledger, scale=self.scale * self.ledger.total / ledger.total)

    def rescaled(self, plan: Plan, recipe: Recipe) -> Plan:
        """The plan with whole weights whose sum is this one, if its ledger has them."""
        if recipe.blocks:
            return scaled_by_block(plan, recipe, self.scale)
        whole = tuple(int(weight * self.scale) for weight in recipe.weights)
        return plan.reweighted(StepWeights(whole, sum(whole)))


def require_keepable(output: str | Path, allow_nonfinite: bool) -> None:
    """Raise UsageError for a soup whose sum cannot be kept."""
    if output == STREAM:
        raise UsageError("a kept sum needs a file as output", advice="-o FILE")
    if allow_nonfinite:
        raise UsageError("no sum can be kept of NaN or infinity", advice=NO_SUM)


def open_sum(
    inputs: OpenedInputs, component: Component, soup: Checkpoint, ledger: Ledger
) -> OpenedSum:
    """The sum beside an open soup, opened and checked against the soup and its ledger.

    The pass verifies its tensors. Raises LedgerError for a sum that is not sound or does not fit.
    """
    with _removable():
        checkpoint = inputs.open(component)
        own = inputs.ledger(checkpoint)
    if own is None or not is_sum(checkpoint):
        raise LedgerError("is not a sum of a soup", path=checkpoint.label, advice=REMOVE)
    facts = facts_of(checkpoint, own)
    ratio = own.total / ledger.total
    # equal ingredients in equal proportions have equal sums; requested dtype, selection and integer
    # source need not be compared
    mine, others = _weights(own, Fraction(1)), _weights(ledger, ratio)
    if (own.root, own.added, mine) != (ledger.root, ledger.added, others):
        what = "is the sum of another soup than the one beside it"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    found = _opened(checkpoint, ledger, facts, facts.scale * ratio)
    tensors = {name: soup.tensors[name] for name in soup_names(soup)}
    if _shapes(found.reader.tensors) != _shapes(tensors):
        what = "is a sum of other tensors than the soup beside it has"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    return found


def as_sum(checkpoint: Checkpoint, ledger: Ledger) -> OpenedSum:
    """An open sum that is used in place of its soup; LedgerError if it is not sound."""
    facts = facts_of(checkpoint, ledger)
    return _opened(checkpoint, ledger, facts, facts.scale)


def _opened(checkpoint: Checkpoint, ledger: Ledger, facts: Facts, scale: Fraction) -> OpenedSum:
    """The open sum; LedgerError for a scale that no sum has.

    With its scale, the weights are whole numbers that the engines compute with exactly.
    """
    entries = ledger.ingredients
    known = denominators_of(facts, ledger)
    weights = [x * scale for x in sum_weights(entries, ledger.added, known).values()]
    every = (*weights, summed(weights))
    whole = [weight for each in every for weight in (each.usual, *each.blocks)]
    largest = max(map(abs, whole))
    if any(weight.denominator != 1 for weight in whole) or largest > LARGEST:
        what = "records a scale that does not fit its weights"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    return OpenedSum(SumReader(checkpoint), ledger, facts, scale)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


@contextmanager
def _removable() -> Iterator[None]:
    """Add to errors about an unsound sum that it can be removed."""
    try:
        yield
    except UnreadableError:
        # a failure that is not the fault of the sum
        raise
    except (InputError, LedgerError) as error:
        issues = [replace(issue, advice=REMOVE) for issue in error.issues]
        raise LedgerError.collected(issues) from None


def facts_of(checkpoint: Checkpoint, ledger: Ledger) -> Facts:
    """The facts that a sum records beside its ledger; LedgerError if they are malformed."""
    metadata = checkpoint.metadata
    facts = parse_facts(metadata[SUM_KEY], metadata[LEDGER_KEY], checkpoint.label, text_digest)
    count = len(ledger.ingredients)
    if len(facts.dtypes) != count or len(facts.denominators) not in (0, count):
        what = "its record of a sum is malformed"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    return facts


def denominators_of(facts: Facts, ledger: Ledger) -> dict[str, int]:
    """The denominators of the scales of adapters, by content digest, unless they are 1."""
    pairs = zip(ledger.ingredients, facts.denominators, strict=False)
    return {entry.digest: number for entry, number in pairs if number > 1}


def _weights(
    ledger: Ledger, ratio: Fraction
) -> tuple[tuple[str, ...], list[tuple[str, WeightByBlock]]]:
    """The blocks of a soup, if weights differ by block, and the weights of its ingredients."""
    own = sum_weights(ledger.ingredients, ledger.added)
    weights = [(digest, weight * ratio) for digest, weight in own.items()]
    return (ledger.blocks if any(each.blocks for _, each in weights) else ()), weights


def sum_place(soup: Path, roots: Mapping[str, str]) -> Path:
    """The path of the sum of a soup whose components have these content digests.

    A link stands for what it leads to.
    """
    with reading(str(soup)):
        final = Path(os.path.realpath(soup)) if soup.is_symlink() else soup
    return final.with_name(sum_name(final.name, roots, text_digest))


def find_sum(soup: ModelFiles, roots: Sequence[str | None]) -> tuple[Component, ...] | None:
    """The sums of a soup, one for each component; None if it has none.

    They lie beside the soup, or a link to it, under its name, or under an earlier name of a soup
    that was renamed. `roots` are the content digests in the ledgers of the soup's components; None
    for a component that is not a soup.
    """
    path = _path_of(soup)
    if path is None:
        return None
    known = {}
    for component, root in zip(soup.components, roots, strict=True):
        if root is None:
            return None
        known[component.name] = root
    places = (sum_place(path, known), path.with_name(sum_name(path.name, known, text_digest)))
    found = next((place for place in places if os.path.lexists(place)), None)
    found = found or _orphan(places[0].parent, sum_name("", known, text_digest))
    if found is None:
        return None
    if soup.folder is None:
        return (Component("", str(found), (found,)),)
    files = [(name, found / file_name(name)) for name in known]
    return tuple(Component(name, str(file), (file,)) for name, file in files)


def _orphan(folder: Path, suffix: str) -> Path | None:
    """A kept sum in a folder whose name ends so, and after whose beginning nothing is called."""
    places: list[Path] = []
    # a folder that can be entered may still be impossible to list
    with suppress(OSError):
        places = sorted(folder.iterdir())
    for place in places:
        soup = place.name.removesuffix(suffix)
        if soup in ("", place.name) or not _is_free(place.with_name(soup)):
            continue
        if is_kept_sum(place):
            return place
    return None


def _is_free(place: Path) -> bool:
    """Whether nothing has this name; what cannot be looked at may be there."""
    try:
        place.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def is_kept_sum(place: Path) -> bool:
    """Whether a file is a sum, or a folder holds sums and nothing else; no link is either.

    Raises UnreadableError for what cannot be read.
    """
    try:
        with reading(str(place)):
            if place.is_symlink():
                return False
            files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            with open_checkpoint(Component("", str(file), (file,))) as checkpoint:
                if not is_sum(checkpoint):
                    return False
    except UnreadableError:
        raise
    except SoupError:
        return False
    return bool(files)


def recorded_root(checkpoint: Checkpoint, ledger: Ledger | None) -> str | None:
    """The content digest in a soup's ledger; None for a plain checkpoint or a sum."""
    return None if ledger is None or is_sum(checkpoint) else ledger.root


def replaced_sum(output: Path | None) -> Path | None:
    """Where the sum is of the soup that an output takes the place of; None if there is none.

    Raises OutputError if that cannot be read: its sum would stay, and what it holds of models.
    """
    try:
        with reading(str(output)):
            if output is None or not output.exists():
                return None
        model = find_model(output)
        if not _may_have_sum(model):
            _require_headers(model)
            return None
        found = find_sum(model, [_root_at(component) for component in model.components])
    except UnreadableError as error:
        what = f"is not replaced, since it may have a kept sum and {error.args[0]}"
        raise OutputError(what, path=output, advice="move it away first") from None
    except SoupError:
        return None
    if found is None:
        return None
    place = found[0].path
    return place if output.is_file() else place.parent


def _may_have_sum(soup: ModelFiles) -> bool:
    """Whether a sum of any soup lies beside this one, as far as is known.

    If not, its ledger need not be read for the digest that its own sum would be named after.
    """
    path = _path_of(soup)
    if path is None:
        return False
    try:
        places = {path.parent, Path(os.path.realpath(path)).parent}
        return any(each.suffix == SUFFIX for place in places for each in place.iterdir())
    except OSError:
        # a folder that can be entered may still be impossible to list
        return True


def _require_headers(model: ModelFiles) -> None:
    """Raise a SoupError for a model that cannot be opened."""
    for component in model.components:
        with open_checkpoint(component):
            pass


def _root_at(component: Component) -> str | None:
    with open_checkpoint(component) as checkpoint:
        return recorded_root(checkpoint, read_ledger(checkpoint))


def _path_of(soup: ModelFiles) -> Path | None:
    """The path with which the name of the soup's sum begins."""
    if soup.folder is None and not soup.components[0].files:
        return None
    path = soup.folder or soup.components[0].files[0]
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))
    return path if path.name else None


def file_name(component: str) -> str:
    """The name of a component's file in the folder of a sum."""
    return f"{component or ONLY}.safetensors"
