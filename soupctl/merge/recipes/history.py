"""The history of a soup in its recipe: written, read, and recorded in what the recipe makes.

Rule 1: a history is copied, not repeated: it must lead to the ingredients of the recipe, and
`verify` rebuilds its states like those of any ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import LedgerError, UsageError
from ...ledger.entries_json import parse_chain
from ...ledger.ledger import UNKNOWN, Change, IngredientEntry, Ledger, SoupState
from ...ledger.replay import contradictions
from ..job import ComponentJob, Job
from ..order import Outcome
from .document import RecipeDocument
from .toml import quoted

History = tuple[SoupState, ...]
"""The states of a soup, oldest first; the root of the present one, the last, is not known."""


def history_lines(histories: Mapping[str, Sequence[SoupState]]) -> Iterator[str]:
    """The lines of the histories of the components of a soup that was changed."""
    for component, states in histories.items():
        key = f"history.{quoted(component)}" if component else "history"
        for number, state in enumerate(states, 1):
            yield ""
            yield f"[[{key}]]"
            yield f"operation = {quoted(state.operation)}"
            if number < len(states):
                yield f"result = {quoted(state.root)}"
            yield "changed = ["
            yield from (f"  {_change_text(each)}," for each in state.changed)
            yield "]"


def _change_text(change: Change) -> str:
    pairs = {"digest": change.digest, "name": change.name, "weight": str(change.weight)}
    members = [f"{key} = {quoted(text)}" for key, text in pairs.items()]
    if change.blocks:
        members.append(f"blocks = [{', '.join(quoted(str(each)) for each in change.blocks)}]")
    return f"{{ {', '.join(members)} }}"


def read_history(value: object) -> dict[str, History]:
    """The histories of components in the value of a recipe's key; a file's has the name ''.

    Raises KeyError, TypeError or ValueError for any other value.
    """
    by_component = {"": value} if isinstance(value, list) else value
    if not isinstance(by_component, dict):
        raise TypeError("a history is a list of states")
    return {str(name): _states(each) for name, each in by_component.items()}


def _states(value: Sequence[Mapping[str, Any]]) -> History:
    last = len(value) - 1
    for place, each in enumerate(value):
        known = {"operation", "changed"} | ({"result"} if place < last else set())
        if each.keys() != known:
            raise ValueError("a state has other keys")
    states = parse_chain(
        [{**each, "root": each.get("result", UNKNOWN), "exact": True} for each in value]
    )
    if not states:
        raise ValueError("a history has states")
    return states


def with_history(job: Job, document: RecipeDocument, places: Sequence[Mapping[str, int]]) -> Job:
    """The job, which records the recipe's history, if it has one, in what it makes.

    `places` are those of the inputs among the sources of each component. Raises UsageError for a
    history of other components than are made.
    """
    if not document.history:
        return job
    made = {each.inputs.name for each in job.components}
    if made != document.history.keys():
        other = min(made ^ document.history.keys())
        what = f"has a history of other components than are made ({other or 'a single file'})"
        raise UsageError(what, path=document.label, advice="leave out the history")
    pairs = zip(job.components, places, strict=True)
    return replace(job, components=tuple(_recording(each, document, its) for each, its in pairs))


def _recording(
    component: ComponentJob, document: RecipeDocument, places: Mapping[str, int]
) -> ComponentJob:
    """The component's job, whose ledger continues the history of the recipe."""
    states = document.history[component.inputs.name]
    drafted = component.draft.ingredients
    # a soup keeps the names that its ingredients had among those that were taken out
    names = {drafted[at].name: name for name, at in places.items() if at < len(drafted)}

    def complete(outcomes: Sequence[Outcome]) -> Ledger:
        ledger = _continued(component.complete(outcomes), states, names)
        if problem := next(contradictions(ledger), None):
            what = f"has a history that does not fit its steps: it {problem}"
            raise LedgerError(what, path=document.label, advice="leave out the history")
        return ledger

    draft = _continued(component.draft, states, names)
    return replace(component, draft=draft, complete=complete)


def _continued(ledger: Ledger, states: History, names: Mapping[str, str]) -> Ledger:
    """The ledger with a history, and other names of its ingredients and their pipelines."""
    *earlier, last = states
    return replace(
        ledger,
        operation=last.operation,
        changed=last.changed,
        chain=tuple(earlier),
        ingredients=tuple(_named(each, names) for each in ledger.ingredients),
    )


def _named(entry: IngredientEntry, names: Mapping[str, str]) -> IngredientEntry:
    shares = tuple(replace(each, name=names.get(each.name, each.name)) for each in entry.pipelines)
    return replace(entry, name=names.get(entry.name, entry.name), pipelines=shares)
