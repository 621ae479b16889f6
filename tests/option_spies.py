"""Options of commands, and what arrives at the functions that a command calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import typer

from soupctl.cli.app import commands
from soupctl.cli.error_report import ErrorStyle
from soupctl.errors import SoupError


def options_of_commands() -> Iterator[tuple[str, Any]]:
    """The name of each command with each of its options, as the parser has them."""
    group: Any = commands()
    for name, command in group.commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield name, parameter


def given(parameter: Any, values: Mapping[str, str]) -> list[str]:
    """An option on a command line with a value that is not its default, from `values` or 7."""
    if parameter.is_flag:
        names = parameter.secondary_opts if parameter.default is True else parameter.opts
        return [names[-1]]
    if choices := getattr(parameter.type, "choices", None):
        texts = [getattr(each, "value", each) for each in choices]
        default = getattr(parameter.default, "value", parameter.default)
        return [parameter.opts[-1], next(each for each in texts if each != default)]
    return [parameter.opts[-1], values.get(parameter.name, "7")]


def flattened(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A value as texts by name; the fields of a dataclass each on their own."""
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from flattened(each.name, getattr(value, each.name))
    else:
        yield name, repr(value)


@dataclass
class Spies:
    """Functions that stand in for others and record their arguments."""

    arrived: list[tuple[str, str]] = field(default_factory=list)

    def on(self, target: Any, returned: Any = None, *, forward: bool = False) -> Callable[..., Any]:
        """A function in place of `target` that records, then returns a value or calls it."""

        def record(*args: Any, **kwargs: Any) -> Any:
            self.arrived.append((target.__name__, "called"))
            for name, value in inspect.signature(target).bind(*args, **kwargs).arguments.items():
                self.arrived.extend(flattened(name, value))
            return target(*args, **kwargs) if forward else returned

        return record

    def observe(self, words: list[str], read: Callable[[], tuple[str, str]]) -> dict[str, Any]:
        """Run a command line: what arrives, by name, and what is printed, which `read` returns."""
        self.arrived.clear()
        style = ErrorStyle()
        # a refusal comes after what is observed, and stands in for it where nothing is called
        with suppress(SoupError, typer.Exit, ValueError):
            commands().main(args=words, prog_name="soupctl", standalone_mode=False, obj=style)
        found: dict[str, Any] = {"printed": [*read(), style.every_issue]}
        for name, value in self.arrived:
            found.setdefault(name, []).append(value)
        return found


def changed(plain: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The names of what differs between two observations."""
    return {name for name in {*plain, *other} if plain.get(name) != other.get(name)}
