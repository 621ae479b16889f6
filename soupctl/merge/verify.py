"""Verifying a soup: by its header, by its digests, or by rebuilding it bit for bit.

Rule 1: the level says what was checked; nothing counts as proven unless it was checked.
Rule 2: a kept sum is part of its soup: a level holds if it holds for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component, ModelFiles
from ..checkpoints.open import find_input, with_same_components
from ..choices import Level, Proof
from ..errors import LedgerError, LimitError, SoupError
from ..frozen import frozen
from ..ledger.ledger import Ledger
from ..ledger.locate import dtype_runs
from ..ledger.lookup import matching
from ..ledger.read import is_sum
from ..ledger.replay import contradictions
from ..ledger.sealed import NewerLedgerError
from ..workers import ExecutionOptions
from .added_digest import added_digest, find_for
from .delta.reader import DeltaReader
from .kept_sum.find import find_sum, recorded_root
from .kept_sum.opened import OpenedSum, as_sum, open_sum
from .made_again import RebuildRequest
from .opened_inputs import OpenedInputs, is_input, open_model
from .order import Order, Outcome
from .rebuild import Rebuilt, rebuild
from .verified_ledger import require_ledger


@frozen
class Verified:
    """The verification result of one component of a soup."""

    name: str
    path: str
    level: Level
    """The highest level that is proven."""
    problem: str | None
    """Why no higher level is proven, or was tried."""
    ledger: Ledger | None
    """The soup's ledger; None without a sound one."""
    refuted: bool = False
    """Whether a claim of the soup or its ledger is disproved."""
    unproven: tuple[str, ...] = ()
    """Claims of the ledger that a rebuild cannot check."""

    @property
    def exact(self) -> bool | None:
        """The exactness that the ledger claims; None without a ledger."""
        return None if self.ledger is None else self.ledger.exact

    def reaches(self, level: Level | None) -> bool:
        """Whether it is proven to that level; for None, to digest with nothing disproved."""
        return not self.refuted and self.level.holds(level or Level.DIGEST)

    def verdict(self, level: Level | None) -> Proof:
        """Proven to that level as in `reaches`, disproved, or neither."""
        if self.reaches(level):
            return Proof.OK
        return Proof.FAILED if self.refuted else Proof.UNPROVEN


def verify(
    soup: str | Path,
    ingredients: Sequence[str | Path] = (),
    *,
    search: Sequence[Path] = (),
    level: Level | None = None,
    component: str | None = None,
    variant: str | None = None,
    execution: ExecutionOptions | None = None,
    elsewhere: Callable[[int, Order], Outcome] | None = None,
) -> tuple[Verified, ...]:
    """The proof level of each component of a soup, at most `level`; None for the highest.

    `ingredients` are used before files at hints or in `search`. `elsewhere` carries out the pass
    over the ingredients of the component at an index. Unreadable or unsound files raise InputError;
    a failed proof is a result, not an error.
    """
    question = ProofQuestion(soup, tuple(ingredients), tuple(search), component, variant)
    found = []
    with open_question(question, execution or ExecutionOptions()) as components:
        for position, each in enumerate(components):
            request = each.request
            if elsewhere is not None:
                request = replace(request, elsewhere=partial(elsewhere, position))
            found.append(_verify(each.name, request, each.beside, level or Level.REBUILD))
            request.soup.require_unchanged()
    return tuple(found)


@frozen
class ProofQuestion:
    """A soup to verify, and where its ingredients may be."""

    soup: str | Path
    ingredients: tuple[str | Path, ...] = ()
    search: tuple[Path, ...] = ()
    component: str | None = None
    variant: str | None = None


@frozen
class QuestionedComponent:
    """One component of a soup to verify, open."""

    name: str
    request: RebuildRequest
    beside: Component | None
    """Its kept sum."""


@contextmanager
def open_question(
    question: ProofQuestion, execution: ExecutionOptions
) -> Iterator[tuple[QuestionedComponent, ...]]:
    """The components of a soup, open with the ingredients that are given."""
    component, variant = question.component, question.variant
    model = find_input(question.soup, component, variant)
    with ExitStack() as stack:
        inputs = [OpenedInputs(stack, question.search, variant) for _ in model.components]
        opened = open_model(inputs, model)
        paths = _paths(question.ingredients, inputs, opened)
        delta_paths = [path for path in paths if added_digest(str(path), model) is not None]
        wholes = [find_for(path, component, variant) for path in paths if path not in delta_paths]
        wholes = [*with_same_components([model, *wholes])[1:]]
        deltas = [component for path in delta_paths for component in find_input(path).components]
        sums = None if component is not None else _sum_beside(inputs, model, opened)
        pairs = zip(inputs, opened, strict=True)
        held = [_held(deltas, each, checkpoint) for each, checkpoint in pairs]
        # a delta that no component has is refused by the first
        held[0] += [each for each in deltas if not any(each in some for some in held)]
        found = []
        for position, each in enumerate(model.components):
            given = [*(whole.components[position] for whole in wholes), *held[position]]
            beside = None if sums is None else sums[position]
            request = RebuildRequest(inputs[position], opened[position], given, execution)
            found.append(QuestionedComponent(each.name, request, beside))
        yield tuple(found)


def _held(deltas: Sequence[Component], inputs: OpenedInputs, soup: Checkpoint) -> list[Component]:
    """Those of these deltas and adapters that a component of the soup has."""
    with suppress(LedgerError):
        ledger = inputs.ledger(soup)
        held = {entry.digest for entry in ledger.sources} if ledger is not None else set()
        return [each for each in deltas if checkpoint_digest(inputs.open(each)) in held]
    return []


def _paths(
    ingredients: Sequence[str | Path], inputs: Sequence[OpenedInputs], opened: Sequence[Checkpoint]
) -> list[str | Path]:
    """The ingredients that are given as paths; others are digests or names in the ledger."""
    ledgers = []
    for each, checkpoint in zip(inputs, opened, strict=True):
        # the unsound ledger is reported for the soup itself
        with suppress(LedgerError):
            ledgers.append(each.ledger(checkpoint))
    return [
        each
        for each in ingredients
        if is_input(str(each))
        or not any(
            matching(str(each), ledger.sources, ledger.ancestors)
            for ledger in ledgers
            if ledger is not None
        )
    ]


def _sum_beside(
    inputs: Sequence[OpenedInputs], model: ModelFiles, opened: Sequence[Checkpoint]
) -> tuple[Component, ...] | None:
    try:
        ledgers = [each.ledger(checkpoint) for each, checkpoint in zip(inputs, opened, strict=True)]
    except LedgerError:
        # the unsound ledger is reported for the soup itself
        return None
    return find_sum(model, list(map(recorded_root, opened, ledgers)))


def _verify(
    name: str, request: RebuildRequest, beside: Component | None, wanted: Level
) -> Verified:
    """The proof level of one component, tried level by level until one fails.

    `beside` is its kept sum.
    """
    soup, level = request.soup, Level.NOTHING
    ledger: Ledger | None = None
    rebuilt = Rebuilt()
    refuted = False
    try:
        ledger, kept = _header(request, beside)
        level = Level.HEADER
        if wanted is not Level.HEADER:
            require_ledger(request.inputs, soup)
            if kept is not None and beside is not None:
                require_ledger(request.inputs, kept.reader.checkpoint)
            level = Level.DIGEST
        if wanted is Level.REBUILD:
            rebuilt = rebuild(request, ledger, kept)
            refuted = rebuilt.difference is not None and (ledger.exact or not rebuilt.of_tensors)
            level = Level.DIGEST if rebuilt.difference else Level.REBUILD
        problem = rebuilt.difference
    except LimitError:
        # a failure that is not the fault of the soup
        raise
    except SoupError as error:
        problem = error.message()
        # a missing file proves nothing, a mismatch does
        refuted = level is not Level.DIGEST and isinstance(error, LedgerError)
        refuted = refuted and not isinstance(error, _NoLedger | NewerLedgerError)
    return Verified(name, soup.label, level, problem, ledger, refuted, rebuilt.unproven)


class _NoLedger(LedgerError):
    """A file without a ledger, which makes no claims."""


def _header(request: RebuildRequest, beside: Component | None) -> tuple[Ledger, OpenedSum | None]:
    """The ledger of a soup and its sum, if it has one or is one; LedgerError if they do not fit."""
    soup = request.soup
    ledger = request.inputs.ledger(soup)
    if ledger is None:
        raise _NoLedger("has no ledger: it is not a soup", path=soup.label)
    kept = None
    if is_sum(soup):
        kept = as_sum(soup, ledger)
    elif ledger.is_delta:
        # its own record is one of the claims to check
        DeltaReader(soup)
    elif beside is not None:
        kept = open_sum(request.inputs, beside, soup, ledger)
    _require_dtypes(soup, ledger)
    for each in (ledger, *ledger.ancestors.values()):
        for what in contradictions(each):
            which = "" if each is ledger else f" of {each.root}"
            raise LedgerError(f"its ledger{which} contradicts itself: it {what}", path=soup.label)
    return ledger, kept


def _require_dtypes(soup: Checkpoint, ledger: Ledger) -> None:
    if not is_sum(soup) and dtype_runs(soup) != ledger.dtypes:
        raise LedgerError("its ledger describes tensors of other dtypes", path=soup.label)
