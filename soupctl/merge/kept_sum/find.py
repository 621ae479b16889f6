"""The sum that is kept beside a soup: where it is, and whether it fits.

Rule 1: a sum fits a soup if it describes the same tensors, made of the same ingredients in the same
proportions; one that lies beside a soup and does not fit is refused, not passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ...checkpoints.checkpoint import Checkpoint, open_checkpoint
from ...checkpoints.digest import text_digest
from ...checkpoints.layout import Component, Model, find_model
from ...checkpoints.open import STREAM, open_input
from ...errors import InputError, LedgerError, SoupError, UsageError
from ...ledger.ledger import LEDGER_KEY, SUM_KEY, Ledger
from ...ledger.read import is_sum, read_ledger
from ...ledger.weights import LARGEST
from ..plan import Plan
from .format import NO_SUM, REMOVE, Facts, parse_facts, sum_name
from .reader import SumReader

ONLY = "sum"
"""Name, before its suffix, of the only file in a folder of a sum."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The sum of one component of a soup, open, and found to fit it."""

    sums: SumReader
    ledger: Ledger
    facts: Facts
    scale: Fraction
    """The sum is that of the ingredients times their weights in the soup's ledger, times this."""

    @property
    def shown(self) -> str:
        """What messages call it."""
        return self.sums.shown

    def require_tensors_of(self, soup: Checkpoint) -> None:
        """Raise LedgerError for a sum of other tensors than the soup has."""
        shapes = {name: tensor.shape for name, tensor in self.sums.tensors.items()}
        if shapes != {name: tensor.shape for name, tensor in soup.tensors.items()}:
            what = "is a sum of other tensors than the soup beside it has"
            raise LedgerError(what, path=self.shown, advice=REMOVE)

    def rescaled(self, plan: Plan, weights: Sequence[Fraction]) -> Plan:
        """A plan of the ingredients with these weights, whose sum is this one.

        Raises LedgerError for a sum that records a scale which makes no whole weights of them.
        """
        whole = [weight * self.scale for weight in weights]
        if any(weight.denominator != 1 for weight in whole) or sum(whole) > LARGEST:
            what = "records a scale that its weights do not have"
            raise LedgerError(what, path=self.shown, advice=REMOVE)
        return replace(plan, weights=tuple(map(int, whole)), divisor=None)


@dataclass(frozen=True, slots=True)
class AddedSum:
    """The sum of a soup that is put into another."""

    kept: Kept
    ledger: Ledger
    """That soup's own."""
    factor: Fraction
    """How often its ingredients go in with the weights that they have in it."""


def require_keepable(output: str | Path, allow_nonfinite: bool) -> None:
    """Raise UsageError for a soup of which no sum can be kept."""
    if output == STREAM:
        raise UsageError("beside standard output no sum can be kept", advice="-o FILE")
    if allow_nonfinite:
        raise UsageError("of NaN and infinity no sum is kept", advice=NO_SUM)


def open_sum(component: Component) -> Checkpoint:
    """A sum that lies beside a soup, opened; LedgerError for what is no sound file."""
    with _removable():
        return open_input(component)


@contextmanager
def _removable() -> Iterator[None]:
    """Where a sum is not sound, tell the way out."""
    try:
        yield
    except (InputError, LedgerError) as error:
        issues = [replace(issue, advice=REMOVE) for issue in error.issues]
        raise LedgerError.collected(issues) from None


def facts_of(checkpoint: Checkpoint, ledger: Ledger) -> Facts:
    """What a sum records of itself beside its ledger; LedgerError if that is not sound."""
    metadata = checkpoint.metadata
    facts = parse_facts(metadata[SUM_KEY], metadata[LEDGER_KEY], checkpoint.shown, text_digest)
    if len(facts.dtypes) != len(ledger.ingredients):
        what = "its record of a sum is malformed"
        raise LedgerError(what, path=checkpoint.shown, advice=REMOVE)
    return facts


def kept_sum(checkpoint: Checkpoint, soup: Ledger | None) -> Kept:
    """An open sum, found to fit the ledger of its soup; None for a sum that stands for its soup.

    Whether its tensors are those that it records is for the pass to find out. Raises LedgerError.
    """
    with _removable():
        ledger = read_ledger(checkpoint)
    if ledger is None or not is_sum(checkpoint):
        raise LedgerError("is no sum of a soup", path=checkpoint.shown, advice=REMOVE)
    facts = facts_of(checkpoint, ledger)
    ratio = Fraction(1)
    if soup is not None:
        ratio = _total(ledger) / _total(soup)
        same = (ledger.root, _weights(ledger, Fraction(1))) == (soup.root, _weights(soup, ratio))
        if not same or _selection(ledger) != _selection(soup):
            what = "is the sum of another soup than the one beside it"
            raise LedgerError(what, path=checkpoint.shown, advice=REMOVE)
    return Kept(SumReader(checkpoint), ledger, facts, facts.scale * ratio)


def _total(ledger: Ledger) -> Fraction:
    return sum((entry.weight for entry in ledger.ingredients), Fraction(0))


def _weights(ledger: Ledger, ratio: Fraction) -> list[tuple[str, Fraction]]:
    return [(entry.digest, entry.weight * ratio) for entry in ledger.ingredients]


def _selection(ledger: Ledger) -> object:
    whose = ledger.taken and ledger.taken.digest
    return ledger.asked_dtype, ledger.keys, ledger.excludes, whose


def sum_place(soup: Path, roots: Mapping[str, str]) -> Path:
    """Where the sum of a soup is kept whose components have these content digests."""
    return soup.with_name(sum_name(soup.name, roots, text_digest))


def find_sum(soup: Model) -> tuple[Component, ...] | None:
    """The sum that lies beside a soup, one a component; None if there is none.

    The soup's ledgers are read to know its name. Raises LedgerError for one that is not sound.
    """
    path = _path_of(soup)
    if path is None:
        return None
    roots = {}
    for component in soup.components:
        with open_checkpoint(component, mapped=False) as checkpoint:
            ledger = None if is_sum(checkpoint) else read_ledger(checkpoint)
        if ledger is None:
            return None
        roots[component.name] = ledger.root
    place = sum_place(path, roots)
    if not os.path.lexists(place):
        return None
    if soup.folder is None:
        return (Component("", str(place), (place,)),)
    files = [(name, place / file_name(name)) for name in roots]
    return tuple(Component(name, str(file), (file,)) for name, file in files)


def replaced_sum(output: Path | None) -> Path | None:
    """Where the sum is of the soup that an output takes the place of; None if there is none."""
    try:
        if output is None or not output.exists():
            return None
        found = find_sum(find_model(output))
    except SoupError:
        return None
    if found is None:
        return None
    place = found[0].path
    return place if output.is_file() else place.parent


def _path_of(soup: Model) -> Path | None:
    """The path that the name of the soup's sum begins with."""
    if soup.folder is None and not soup.components[0].files:
        return None
    path = soup.folder or soup.components[0].files[0]
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))
    return path if path.name else None


def file_name(component: str) -> str:
    """The name of a component's file in the folder of a sum."""
    return f"{component or ONLY}.safetensors"
