"""Change a soup: put ingredients in, take them out, exchange them.

Rule 1: by default the result is recomputed from the ingredients that remain, found by content, so
its tensors are those of a soup that never held the others.
Rule 2: the rounded soup is computed with only on request, and its ledger and all after it say so.
Rule 3: a soup whose tensors are not those of its ledger is changed by no one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..checkpoints.layout import Model
from ..checkpoints.open import STREAM, find_input, require_same_components
from ..errors import UsageError
from ..ledger.read import is_sum
from ..workers import ExecutionOptions
from .destination import decide
from .ingredients import Inputs
from .job import ComponentResult, Job, Work, carry_out
from .kept_sum.find import find_sum, require_keepable
from .membership import AdditionTarget, ChangeSpec
from .revision import Revised, revise_component
from .shared_components import by_component, is_new, is_shared, ledgers_of
from .sources import RemovalTarget, is_input, require_digests


@dataclass(frozen=True, slots=True)
class Addition:
    """A checkpoint that is put in."""

    path: str | Path
    weight: Fraction | None = None
    """None for 1, for a soup's own total weight, or in a swap for what is taken out."""

    def __post_init__(self) -> None:
        """Refuse a weight that is zero or only nearly what was meant, with UsageError."""
        _require_exact(self.weight)


@dataclass(frozen=True, slots=True)
class Removal:
    """An ingredient that is taken out."""

    what: str
    """Its path, its content digest, or its name in the ledger."""
    weight: Fraction | None = None
    """None for all of its weight."""

    def __post_init__(self) -> None:
        """Refuse a weight that is zero or only nearly what was meant, with UsageError."""
        _require_exact(self.weight)


def _require_exact(weight: Fraction | None) -> None:
    if weight is not None and not isinstance(weight, int | Fraction):
        raise UsageError(f"{weight!r} is not exact", advice="give a Fraction or an int")
    if weight == 0:
        raise UsageError("a weight of zero changes nothing", advice="leave it out")


@dataclass(frozen=True, slots=True)
class Revision:
    """A soup that is to be changed, and how."""

    operation: str
    """What the ledger calls it: `add`, `subtract` or `swap`."""
    soup: str | Path
    output: str | Path
    added: Sequence[Addition] = ()
    removed: Sequence[Removal] = ()
    search: tuple[Path, ...] = ()
    """Folders in which ingredients are looked for that are not where the ledger hints."""
    approximate: bool = False
    """Compute with the rounded soup instead of its ingredients."""
    total: Fraction | None = None
    """Weight of a soup that has no ledger, which is computed with as it is."""
    again: bool = False
    """Whether content that is in already may be put in once more."""
    keep_sum: bool | None = None
    """Whether the exact sum is kept beside the result; None if the soup has one."""
    component: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        """Refuse, with UsageError, what cannot be whatever the files hold.

        That is a total that is not exact or negative, several streams, and the sum of a soup that
        is computed with as it is, or goes to standard output.
        """
        _require_exact(self.total)
        if self.total is not None and self.total < 0:
            raise UsageError(f"a soup has no weight of {self.total}")
        if self.keep_sum:
            require_keepable(self.output, allow_nonfinite=False)
            if self.approximate or self.total is not None:
                what = "of a soup that is computed with as it is, no sum can be kept"
                raise UsageError(what, advice="leave out --keep-sum")
        inputs = [self.soup, *(each.path for each in self.added), *(x.what for x in self.removed)]
        if inputs.count(STREAM) > 1:
            raise UsageError("standard input can be only one of the inputs")

    @property
    def looks_for_a_sum(self) -> bool:
        """Whether the soup's own sum is used if there is one."""
        return not self.approximate and self.total is None and self.component is None


def revise(
    revision: Revision, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the changed soup and return what each component became.

    `force` replaces an existing output, the soup itself among others. Raises any child of
    SoupError; then there is no output, or the old one, and no trace.
    """
    with open_revision(revision) as job:
        return carry_out(job, force=force, execution=execution)


@contextmanager
def open_revision(revision: Revision) -> Iterator[Job]:
    """The revision with its soup checked, its ingredients found and everything planned.

    Raises LedgerError for a soup without a sound ledger, for what is not in it or in it already,
    and where an exact result would need ingredients that are not found.
    """
    place = (revision.component, revision.variant)
    soup = find_input(revision.soup, *place)
    newcomers = [find_input(each.path, *place) for each in revision.added]
    leavers = [
        find_input(each.what, *place) if is_input(each.what) else None for each in revision.removed
    ]
    require_same_components([soup, *newcomers, *filter(None, leavers)])
    with ExitStack() as stack:
        revised = [
            revise_component(stack, component, terms)
            for component, terms in zip(
                soup.components, _terms(revision, soup, newcomers, leavers), strict=True
            )
        ]
        yield planned(revision, (soup, *newcomers), revised)


def _terms(
    revision: Revision, soup: Model, newcomers: Sequence[Model], leavers: Sequence[Model | None]
) -> Iterator[ChangeSpec]:
    """How each component is changed."""
    # the soup's own, and those of soups that are put in
    sums, *shares = [
        find_sum(model) if revision.looks_for_a_sum else None for model in (soup, *newcomers)
    ]
    ledgers = ledgers_of(soup) if len(soup.components) > 1 else (None,)
    goers = [
        by_component(RemovalTarget(None, removal.what, removal.weight), model, ledgers)
        for model, removal in zip(leavers, revision.removed, strict=True)
    ]
    new = bool(newcomers) and all(is_new(model, ledgers) for model in newcomers)
    for position, ledger in enumerate(ledgers):
        comers = zip(newcomers, revision.added, shares, strict=True)
        yield ChangeSpec(
            operation=revision.operation,
            place=_place(soup),
            search=revision.search,
            variant=revision.variant,
            approximate=revision.approximate,
            total=revision.total,
            # what is new in one component may be in already in another, which all share
            again=revision.again or (new and is_shared(ledger)),
            newcomers=tuple(
                AdditionTarget(
                    model.components[position],
                    _place(model),
                    addition.weight,
                    None if share is None else share[position],
                )
                for model, addition, share in comers
            ),
            leavers=tuple(each[position] for each in goers),
            kept=None if sums is None else sums[position],
        )


def planned(revision: Revision, models: tuple[Model, ...], revised: Sequence[Revised]) -> Job:
    """The job that makes these components, of `models` of which the first is the soup."""
    inputs = Inputs(models, tuple(each.part for each in revised))
    plans = [each.plan for each in revised]
    keep = revision.keep_sum
    if keep is None:
        keep = revision.output != STREAM and any(each.had_sum for each in revised)
    destination = decide(revision.output, inputs, plans, None, revision.variant)
    works = []
    for each, share in zip(revised, destination.shares, strict=True):
        draft = each.draft(destination.folder_of(share))
        work = Work(
            part=each.part,
            plan=each.plan,
            share=share,
            draft=draft,
            complete=each.completing(draft),
            summing=each.summing(keep),
            sums=each.sums,
            way=each.way,
            require_sources=partial(require_digests, each.sources),
        )
        works.append(work.sized())
    spared = frozenset[Path]()
    if _is_same(revision.soup, revision.output) and not any(map(_is_sum, revised)):
        spared = _files(inputs)
    weights = tuple((entry.name, entry.weight) for entry in revised[0].after)
    # what is only looked at is no less an input: no output may take its place
    used = Inputs(inputs.models, (*inputs.parts, *(each.looked_at for each in revised)))
    return Job(weights, used, destination, tuple(works), spared)


def _place(model: Model) -> str:
    """The path that a model's name in a ledger is taken from."""
    return os.path.abspath(model.shown) if model.components[0].files else model.shown


def _files(inputs: Inputs) -> frozenset[Path]:
    """The soup's own files."""
    components = inputs.models[0].components
    return frozenset(file for component in components for file in component.files)


def _is_sum(revised: Revised) -> bool:
    """Whether what is changed is no soup that could be replaced, but the sum of one."""
    return is_sum(revised.looked_at.checkpoints[0])


def _is_same(soup: str | Path, output: str | Path) -> bool:
    return Path(output).exists() and Path(soup).exists() and Path(output).samefile(soup)
