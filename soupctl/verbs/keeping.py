"""The sum that is kept beside a soup: where it is, whether it fits, and how it is written.

Rule 1: a sum is published before its soup, and the sum of a soup that is replaced goes after it: a
kill at any moment leaves a soup with its own sum.
Rule 2: a sum fits a soup if it describes the same tensors, made of the same ingredients in the same
proportions; one that lies beside a soup and does not fit is refused, not passed over.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ..errors import InputError, LedgerError, OutputError, SoupError, UsageError
from ..format.header import Tensor
from ..soup.ledger import KEY, Ledger
from ..soup.plan import Plan
from ..soup.sums import KEY as SUM
from ..soup.sums import REMOVE, Facts, parse_facts, sum_name
from ..soup.weights import LARGEST
from ..storage.checkpoint import Checkpoint, open_checkpoint
from ..storage.digest import text_digest
from ..storage.layout import Component, Model, find_model
from ..storage.publish import publish_file, publish_folder
from ..storage.rename import random_name
from ..summands import KeptSum
from ..summing import NO_SUM
from .inputs import STREAM, is_sum, open_input, read_ledger

ONLY = "sum"
"""Name, before its suffix, of the only file in a folder of a sum."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The sum of one component of a soup, open, and found to fit it."""

    sums: KeptSum
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
class Share:
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
    try:
        return open_input(component)
    except InputError as error:
        issues = [replace(issue, advice=REMOVE) for issue in error.issues]
        raise LedgerError.collected(issues) from None


def facts_of(checkpoint: Checkpoint, ledger: Ledger) -> Facts:
    """What a sum records of itself beside its ledger; LedgerError if that is not sound."""
    metadata = checkpoint.metadata
    facts = parse_facts(metadata[SUM], metadata[KEY], checkpoint.shown, text_digest)
    if len(facts.dtypes) != len(ledger.ingredients):
        what = "its record of a sum is malformed"
        raise LedgerError(what, path=checkpoint.shown, advice=REMOVE)
    return facts


def kept_sum(checkpoint: Checkpoint, soup: Ledger | None) -> Kept:
    """An open sum, found to fit the ledger of its soup; None for a sum that stands for its soup.

    Whether its tensors are those that it records is for the pass to find out. Raises LedgerError.
    """
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
    return Kept(KeptSum(checkpoint), ledger, facts, facts.scale * ratio)


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
    files = [(name, place / _file_name(name)) for name in roots]
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
    return path if path.name not in ("", "..") else None


def _file_name(component: str) -> str:
    return f"{component or ONLY}.safetensors"


@dataclass(frozen=True, slots=True)
class SumFile:
    """One file of a sum that is to be written: its tensors, and a header that is long enough."""

    component: str
    tensors: tuple[Tensor, ...]
    header: int


class SumSink:
    """A sum that is being written beside the soup at `soup`; its name is given by what is in it."""

    def __init__(self, soup: Path, is_folder: bool) -> None:
        self.soup = soup
        self.is_folder = is_folder
        self.path: Path | None = None
        """Where it is, once its name is known to be its own."""
        self._roots: dict[str, str] = {}

    @contextmanager
    def opened(self, files: Sequence[SumFile], check: Callable[[], None]) -> Iterator[list[int]]:
        """Descriptors of its files, published on a clean exit after `check`."""
        provisional = self.soup.with_name(f"{self.soup.name}.sum")
        with ExitStack() as stack:
            if self.is_folder:
                staging = stack.enter_context(
                    publish_folder(
                        provisional,
                        replace=True,
                        may_replace=self._may_replace,
                        check=check,
                        naming=self._name,
                    )
                )
                yield [
                    staging.create(_file_name(file.component), file.header + _size(file.tensors))
                    for file in files
                ]
            else:
                (file,) = files
                yield [
                    stack.enter_context(
                        publish_file(
                            provisional,
                            file.header + _size(file.tensors),
                            replace=True,
                            check=check,
                            naming=self._name,
                        )
                    )
                ]

    def add_root(self, component: str, root: str) -> None:
        """Tell the content digest of one component of the soup."""
        self._roots[component] = root

    def _name(self) -> str:
        """The name of the sum; OutputError if something else than a sum has it."""
        place = sum_place(self.soup, self._roots)
        if os.path.lexists(place) and not self._may_replace(place):
            raise OutputError("is there and is no sum of a soup", path=place)
        self.path = place
        return place.name

    def _may_replace(self, place: Path) -> bool:
        """Whether what is there is a sum, all of it."""
        return recognised(place)

    def withdraw(self) -> None:
        """Take the sum away again, unless it is that of the soup that is there."""
        if self.path is not None and self.path != replaced_sum(self.soup):
            # the failure that led here is the one to tell of
            with suppress(OutputError):
                remove(self.path)


def _size(tensors: Sequence[Tensor]) -> int:
    return tensors[-1].stop if tensors else 0


def recognised(place: Path) -> bool:
    """Whether a file is a sum, or a folder holds sums and nothing else; no link is either."""
    if place.is_symlink():
        return False
    try:
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            with open_checkpoint(Component("", str(file), (file,)), mapped=False) as checkpoint:
                if not is_sum(checkpoint):
                    return False
    except (SoupError, OSError):
        return False
    return bool(files)


def remove(place: Path) -> None:
    """Remove the sum at a path, if that is what is there; OutputError if it cannot be."""
    if not recognised(place):
        return
    try:
        if place.is_dir():
            # at once: half a sum must never lie beside a soup
            shutil.rmtree(place.rename(place.with_name(random_name())))
        else:
            place.unlink()
    except OSError as error:
        problem = f"is no longer the sum of a soup, and remains: {error.strerror or error}"
        raise OutputError(problem, path=place) from error
