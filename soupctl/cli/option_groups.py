"""Commands that share options: a group of options is a dataclass, and each field is an option.

Rule 1: an option is declared in one place, its field: name, type, default and help text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

Command = Callable[..., None]


def with_option_groups(command: Command) -> Command:
    """The command for Typer, with an option for each field of its parameters that are dataclasses.

    The command itself receives the dataclasses. Raises ValueError if two options have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[Parameter] = []
    for each in signature(command).parameters.values():
        if each.name in groups:
            parameters += _parameters_of(groups[each.name])
        else:
            flat = each.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[each.name])
            parameters.append(flat)

    @wraps(command)
    def flat_command(**values: Any) -> None:
        built = {
            name: kind(**{each.name: values.pop(each.name) for each in fields(kind)})
            for name, kind in groups.items()
        }
        command(**values, **built)

    vars(flat_command)["__signature__"] = Signature(parameters)
    flat_command.__annotations__ = {each.name: each.annotation for each in parameters}
    return flat_command


def _parameters_of(group: Any) -> Iterator[Parameter]:
    """A parameter for each field of a group, with the field's type, help text and default."""
    hints = get_type_hints(group, include_extras=True)
    for each in fields(group):
        yield Parameter(
            each.name, Parameter.KEYWORD_ONLY, annotation=hints[each.name], default=_default(each)
        )


def _default(option: Field[Any]) -> Any:
    return Parameter.empty if option.default is MISSING else option.default
