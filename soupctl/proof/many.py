"""Verifying a folder of soups: all of them, a sample, or as many as there is time for.

Rule 1: a soup that was not read gets no verdict, and is listed as unread.
Rule 2: a sample is drawn from the sorted names by a seed, so that it can be drawn again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import Enum
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from random import Random

from ..checkpoints.layout import SUFFIXES
from ..checkpoints.open import find_input, open_input
from ..choices import Level, Proof
from ..errors import InputError, SoupError, UsageError
from ..frozen import frozen
from ..ledger.read import ledger_text
from ..merge.verify import Verified, verify
from ..storage.regular import reading
from ..workers import ExecutionOptions


@frozen
class SoupFolder:
    """The soups in a folder that is no model itself."""

    path: str
    soups: tuple[Path, ...]
    """Sorted, at least one; files that cannot be read are among them."""
    others: tuple[Path, ...]
    """Checkpoints without a ledger."""


@frozen
class VerifiedSoup:
    """The result of verifying one soup of several."""

    path: str
    components: tuple[Verified, ...]
    """Empty for a soup that cannot be read."""
    problem: str | None = None
    """Why it cannot be read."""

    def verdict(self, level: Level | None) -> Proof:
        """The worst verdict on its components; one that cannot be read is not proven."""
        every = list(Proof)
        verdicts = [each.verdict(level) for each in self.components] or [Proof.UNPROVEN]
        return min(verdicts, key=every.index)


@frozen
class VerifiedFolder:
    """What was verified of a folder of soups."""

    soups: tuple[VerifiedSoup, ...]
    unread: tuple[str, ...]
    """The soups of which nothing is known: not drawn, or no time was left."""


@frozen
class Share:
    """Which of several soups to verify, and for how long."""

    sample: Fraction = Fraction(1)
    """The share of the soups to draw, above 0 and at most 1; at least one is drawn."""
    seed: int = 0
    seconds: float | None = None
    """No soup is begun after that time, but for the first."""


def soups_in(folder: str | Path) -> SoupFolder | None:
    """The soups directly in a folder, at least two; None for anything else, such as a model.

    Raises InputError for an unreadable folder.
    """
    path = Path(folder)
    with reading(str(folder)):
        if not path.is_dir():
            return None
        places = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    try:
        find_input(path)
    except InputError:
        pass
    else:
        return None
    found: dict[FolderEntry, list[Path]] = {kind: [] for kind in FolderEntry}
    for each in places:
        if each.is_dir() or each.name.endswith(SUFFIXES):
            found[_kind_of(each)].append(each)
    if len(found[FolderEntry.SOUP]) < 2:
        return None
    # one that is damaged may have been a soup, and must not be passed over
    soups = sorted([*found[FolderEntry.SOUP], *found[FolderEntry.DAMAGED]])
    return SoupFolder(str(folder), tuple(soups), tuple(found[FolderEntry.OTHER]))


class FolderEntry(Enum):
    """What something in a folder of soups is."""

    SOUP = "soup"
    DAMAGED = "damaged"
    """Weights that cannot be read."""
    OTHER = "other"
    """A checkpoint without a ledger."""
    NOTHING = "nothing"
    """A folder that is no model."""


def _kind_of(path: Path) -> FolderEntry:
    try:
        components = find_input(path).components
    except SoupError:
        return FolderEntry.NOTHING if path.is_dir() else FolderEntry.DAMAGED
    try:
        for each in components:
            with open_input(each) as checkpoint:
                if ledger_text(checkpoint) is not None:
                    return FolderEntry.SOUP
    except SoupError:
        return FolderEntry.DAMAGED
    return FolderEntry.OTHER


def verify_folder(
    folder: SoupFolder,
    share: Share,
    *,
    search: Sequence[Path] = (),
    level: Level | None = None,
    execution: ExecutionOptions | None = None,
    how: Callable[..., tuple[Verified, ...]] = verify,
    clock: Callable[[], float] = time.monotonic,
) -> VerifiedFolder:
    """The results of verifying soups of a folder, and the soups that were not read.

    `how` verifies a soup, and takes what `verify` takes.
    Raises UsageError for a share that is not above 0 and at most 1, LimitError where the machine
    fails.
    """
    if not 0 < share.sample <= 1:
        raise UsageError("--sample must be above 0% and at most 100%", advice="such as 5%")
    count = ceil(share.sample * len(folder.soups))
    # it only picks; nobody must be unable to guess
    drawn = sorted(Random(share.seed).sample(folder.soups, count))  # noqa: S311
    begin, found = clock(), list[VerifiedSoup]()
    for each in drawn:
        if found and share.seconds is not None and clock() - begin >= share.seconds:
            break
        found.append(_verified(each, partial(how, search=search, level=level, execution=execution)))
    read = {each.path for each in found}
    return VerifiedFolder(tuple(found), tuple(str(e) for e in folder.soups if str(e) not in read))


def _verified(path: Path, how: Callable[..., tuple[Verified, ...]]) -> VerifiedSoup:
    try:
        components = how(path)
    except InputError as error:
        return VerifiedSoup(str(path), (), error.message())
    return VerifiedSoup(str(path), components)
