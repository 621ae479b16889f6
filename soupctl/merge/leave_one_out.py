"""Leaving each ingredient of a soup out in turn: as many soups as it has ingredients, in one pass.

Rule 1: each output equals, byte for byte, that of `subtract` with its ingredient, for a soup
without a kept sum: all are computed from the ingredients, and no sum is used or kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import SUFFIXES, ModelFiles
from ..checkpoints.open import STREAM, find_input
from ..errors import Issue, LedgerError, MismatchError, OutputError, UsageError
from ..frozen import frozen
from ..ledger.changes import CANNOT_SAY, MAKE_AGAIN, unattributed
from ..ledger.ledger import Ledger
from ..ledger.pipelines import attributed, is_shared, pipelines_of
from ..ledger.read import require_model
from ..workers import ExecutionOptions
from .job import ComponentResult, Job
from .membership import ledger_before
from .opened_inputs import OpenedInputs, open_model
from .revise import planned
from .revised_component import revise_component
from .revision import ComponentChange, Removal, Revision
from .rounds import arrange
from .run import carry_out_together
from .shared_components import removals_by_component

NAME = "{name}"


@frozen
class LeaveOneOut:
    """A soup whose ingredients are to be left out in turn."""

    soup: str | Path
    output: str
    """The outputs; `{name}` stands for the ingredient that is left out."""
    search: tuple[Path, ...] = ()
    """Folders to search for ingredients that are not at the ledger's hints."""
    approximate: bool = False
    """Whether to compute with the rounded soup instead of its ingredients."""
    component: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for an output that would be the same for all."""
        if self.output == STREAM:
            raise UsageError("standard output holds one soup, not several", advice=TEMPLATE)
        if NAME not in self.output:
            raise UsageError(f"the output has no {NAME}", path=self.output, advice=TEMPLATE)


TEMPLATE = f"such as -o 'without-{NAME}'"


@frozen
class Variant:
    """One soup without one ingredient."""

    name: str
    """The ledger's name of the ingredient that it lacks."""
    job: Job


def leave_one_out(
    family: LeaveOneOut, *, force: bool = False, execution: ExecutionOptions | None = None
) -> dict[str, tuple[ComponentResult, ...]]:
    """Make every soup; the results of its components, by the name of the missing ingredient.

    `force` replaces existing outputs, but no input. Raises any child of SoupError; for the outputs
    that then exist, see `carry_out_together`.
    """
    with open_family(family) as members:
        rounds = arrange(
            [member.job for member in members], execution.threads if execution else None
        )
        made = carry_out_together(rounds, force=force, execution=execution)
        return {member.name: each for member, each in zip(members, made, strict=True)}


@contextmanager
def open_family(family: LeaveOneOut) -> Iterator[tuple[Variant, ...]]:
    """All soups, planned but not yet computed, by the name of the ingredient that each leaves out.

    Raises LedgerError as `open_revision` does, also for a soup of one ingredient and for a name
    that no file can have; MismatchError for components of different ingredients, OutputError for
    ingredients whose names would make one output.
    """
    soup = find_input(family.soup, family.component, family.variant)
    with ExitStack() as stack:
        inputs = [OpenedInputs(stack, family.search, family.variant) for _ in soup.components]
        checkpoints = open_model(inputs, soup)
        whole = _component_changes(family, soup, inputs, checkpoints)
        outputs = _outputs(family.output, _names(soup, [change.before for change in whole]))
        yield tuple(
            Variant(name, _job(name, output, soup, whole)) for name, output in outputs.items()
        )


def _component_changes(
    family: LeaveOneOut,
    soup: ModelFiles,
    inputs: Sequence[OpenedInputs],
    checkpoints: Sequence[Checkpoint],
) -> list[ComponentChange]:
    """The components without a removal yet; InputError for a sum."""
    revision = Revision(
        "subtract",
        family.soup,
        family.output,
        search=family.search,
        approximate=family.approximate,
        component=family.component,
        variant=family.variant,
    )
    for checkpoint in checkpoints:
        require_model(checkpoint)
    ledgers = [
        ledger_before(revision, each, checkpoint, soup.label)
        for each, checkpoint in zip(inputs, checkpoints, strict=True)
    ]
    known = attributed([each.name for each in soup.components], ledgers)
    return [
        ComponentChange(revision, *each) for each in zip(inputs, checkpoints, known, strict=True)
    ]


def _job(name: str, output: str, soup: ModelFiles, whole: Sequence[ComponentChange]) -> Job:
    """The job that makes the soup without one ingredient."""
    revision = replace(whole[0].revision, output=output, removed=(Removal(name),))
    changes = [replace(change, revision=revision) for change in whole]
    removals = removals_by_component(changes, (None,), soup.label)
    changed = [
        revise_component(replace(change, removals=each))
        for change, each in zip(changes, removals, strict=True)
    ]
    # no output may replace the soup, because the other outputs are made from it as well
    return replace(planned((soup,), changed), replaceable=frozenset())


def _names(soup: ModelFiles, ledgers: Sequence[Ledger]) -> list[str]:
    """The ingredients of a checkpoint, or whole pipelines, by name.

    Raises MismatchError or LedgerError if the ledgers do not record the pipelines.
    """
    # the base is never left out
    entries = [
        entry for ledger in ledgers for entry in ledger.ingredients if entry.digest != ledger.base
    ]
    pipelines = [each.name for each in pipelines_of(ledgers).values()]
    if len(ledgers) > 1 and any(map(unattributed, entries)):
        if pipelines:
            _require_same_ingredients(soup, ledgers)
        raise LedgerError(CANNOT_SAY, path=soup.label, advice=MAKE_AGAIN)
    alone = [entry.name for entry in entries if unattributed(entry)]
    return [*pipelines, *alone]


def _require_same_ingredients(soup: ModelFiles, ledgers: Sequence[Ledger]) -> None:
    """Raise MismatchError unless all components that differ have ingredients of the same names."""
    telling = [ledger for ledger in ledgers if not is_shared(ledger)] or ledgers
    expected = _entry_names(telling[0])
    first = soup.components[ledgers.index(telling[0])]
    issues = [
        Issue(
            f"is made of {', '.join(_entry_names(ledger))} where {first.label} is of"
            f" {', '.join(expected)}",
            component.label,
            advice="--component picks one of a pipeline's",
        )
        for component, ledger in zip(soup.components, ledgers, strict=True)
        if ledger in telling and _entry_names(ledger) != expected
    ]
    if issues:
        raise MismatchError.collected(issues)


def _entry_names(ledger: Ledger) -> list[str]:
    return sorted(entry.name for entry in ledger.ingredients)


def _outputs(template: str, names: Sequence[str]) -> dict[str, str]:
    """The output of each ingredient, by name in their order; no two are the same."""
    outputs: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name in sorted(names):
        output = template.replace(NAME, _stem(name, template).replace("/", "-"))
        _require_inside(template, name, output)
        if output in owners:
            what = f"would be the output without {owners[output]} and that without {name}"
            raise OutputError(what, path=output, advice="remove them one at a time with subtract")
        owners[output] = name
        outputs[name] = output
    return outputs


def _stem(name: str, template: str) -> str:
    """An ingredient's name, without a suffix if the template has one."""
    if not name.endswith(SUFFIXES) or Path(template).suffix not in SUFFIXES:
        return name
    return name.removesuffix(Path(name).suffix)


def _require_inside(template: str, name: str, output: str) -> None:
    """Raise LedgerError if a name turns the template into a path in another folder."""
    asked, made = template.split("/"), output.split("/")
    changed = [new for old, new in zip(asked, made, strict=True) if old != new]
    if any(new in ("", ".", "..") or "\0" in new for new in changed):
        raise LedgerError("is an ingredient's name that cannot be a file name", path=repr(name))
