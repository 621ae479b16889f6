"""`--hub`: OWNER/NAME on the command line is a repository of the hub where there is no such path.

Rule 1: a parameter that names checkpoints is marked as such where it is declared; a command has the
option if it has such a parameter, and receives addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Annotated, Any

import typer

from ..frozen import frozen

NAME = "hub"
OPTION = f"--{NAME}"
COMMON = ("force", "threads", "json")
"""The first options of those about output, work and printing."""
Hub = Annotated[
    bool, typer.Option(OPTION, help="Read OWNER/NAME from the hub where no such path exists.")
]


@frozen
class NamesCheckpoints:
    """Marks a parameter that names checkpoints, which may be on servers."""

    after: str = ""
    """What precedes the name in each text; empty if the text is the name."""

    def resolved(self, text: str) -> str:
        """The text with an address where it has OWNER/NAME and there is no such path."""
        from ..checkpoints.remote.hub_ids import on_hub

        before, mark, name = text.partition(self.after) if self.after else ("", "", text)
        return f"{before}{mark}{on_hub(name)}"


CHECKPOINTS = NamesCheckpoints()


class HubOption:
    """The option of a command with these parameters, if any of them names checkpoints."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        marks = {each.name: _mark_of(each.annotation) for each in parameters}
        self._named = {name: mark for name, mark in marks.items() if mark is not None}
        self._is_declared = NAME in marks
        """Whether the command has the option itself, because it resolves more than its words."""

    def added_to(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """The parameters with that of the option, before those that most commands have."""
        found = list(parameters)
        if self._named and not self._is_declared:
            common = (place for place, each in enumerate(found) if each.name in COMMON)
            option = Parameter(NAME, Parameter.KEYWORD_ONLY, annotation=Hub, default=False)
            found.insert(next(common, len(found)), option)
        return found

    def take(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values of the command's own parameters, with addresses if the option is given."""
        found = dict(values)
        if not self._named:
            return found
        is_given = values[NAME] if self._is_declared else found.pop(NAME)
        return found | (_with_addresses(values, self._named) if is_given else {})


def _mark_of(annotation: Any) -> NamesCheckpoints | None:
    found = getattr(annotation, "__metadata__", ())
    return next((each for each in found if isinstance(each, NamesCheckpoints)), None)


def _with_addresses(
    values: Mapping[str, Any], named: Mapping[str, NamesCheckpoints]
) -> dict[str, Any]:
    """The values that name checkpoints, each a text, several or none."""
    found: dict[str, Any] = {}
    for name, mark in named.items():
        value = values[name]
        if isinstance(value, str):
            found[name] = mark.resolved(value)
        elif value is not None:
            found[name] = [mark.resolved(each) for each in value]
    return found
