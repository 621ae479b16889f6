"""Commands that share options: a group of options is a dataclass, and each field is an option.

Rule 1: an option is declared in one place, its field: name, type, default and help text.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from ..training.option_fields import CommandOptions, ShownOption
from .hub_option import HubOption

Command = Callable[..., None]

Given = Mapping[str, Any]
"""The training options that a command line gives, by name.

A parameter `given: Annotated[Given, CommandOptions(...)]` has an option for each of them; options
that are not given are not in it, because a config or a preset may have them.
"""


def with_option_groups(command: Command) -> Command:
    """The command for Typer, with an option for each field of each parameter that is a group.

    A group is a dataclass, or `Given`; the command itself receives objects of them. Raises
    ValueError if two options have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    training = {name: found for name, hint in hints.items() if (found := _training_of(hint))}
    parameters: list[Parameter] = []
    for each in signature(command).parameters.values():
        if each.name in groups:
            parameters += _parameters_of(groups[each.name])
        elif each.name in training:
            parameters += map(_parameter_of, training[each.name].on_command_line)
        else:
            flat = each.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[each.name])
            parameters.append(flat)
    hub = HubOption(parameters)
    parameters = hub.added_to(parameters)

    @wraps(command)
    def flat_command(**given: Any) -> None:
        values = hub.take(given)
        built: dict[str, Any] = {
            name: kind(**{each.name: values.pop(each.name) for each in fields(kind)})
            for name, kind in groups.items()
        }
        for name, options in training.items():
            names = [each.name for each in options.on_command_line]
            built[name] = _given({each: values.pop(each) for each in names})
        command(**values, **built)

    vars(flat_command)["__signature__"] = Signature(parameters)
    flat_command.__annotations__ = {each.name: each.annotation for each in parameters}
    return flat_command


@cache
def _parameters_of(group: Any) -> tuple[Parameter, ...]:
    """A parameter for each field of a dataclass, with its type, help text and default."""
    hints = get_type_hints(group, include_extras=True)
    kind = Parameter.KEYWORD_ONLY
    return tuple(
        Parameter(
            each.name,
            kind,
            annotation=hints[each.name],
            default=Parameter.empty if each.default is MISSING else each.default,
        )
        for each in fields(group)
    )


def _training_of(hint: Any) -> CommandOptions | None:
    """The training options that a parameter with this type hint stands for."""
    found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, CommandOptions)]
    return found[0] if found else None


def _parameter_of(option: ShownOption) -> Parameter:
    """A parameter for a training option; its default is None, for one that is not given."""
    kind = option.type
    kind = typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
    kind = list[str] if typing.get_origin(kind) is tuple else kind
    dashed = option.name.replace("_", "-")
    names = f"--{dashed}/--no-{dashed}" if kind is bool else f"--{dashed}"
    info = typer.Option(names, help=option.help, metavar=option.metavar)
    return Parameter(
        option.name, Parameter.KEYWORD_ONLY, annotation=Annotated[kind | None, info], default=None
    )


def _given(values: Mapping[str, Any]) -> Given:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None and value != []
    }
