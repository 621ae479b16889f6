"""The commands, by job and name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from importlib import import_module
from inspect import getdoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from .. import __version__
from ..errors import UsageError
from . import completion
from .console import put, say

SETTINGS: dict[str, Any] = {
    "add_help_option": False,
    "no_args_is_help": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "suggest_commands": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


def _overview(context: typer.Context) -> list[str]:
    """The lines about all commands."""
    from .overview import overview

    jobs = {job: [(name, _summary(name)) for name in names] for job, names in JOBS.items()}
    return overview(context, jobs).splitlines()


def _show_overview(context: typer.Context, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        for line in _overview(context):
            put(line)
        raise typer.Exit


def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    help_: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--help", "-h", is_eager=True, callback=_show_overview, help="Show this and exit."
        ),
    ] = False,
) -> None:
    """Exact, reversible, verifiable soups of diffusion checkpoints.

    A soup is the weighted average of checkpoints. Its file records what went in, so every
    ingredient can be taken out again, to the last bit.
    """
    if version:
        put(f"soupctl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        for line in _overview(context):
            say(line)
        raise typer.Exit(UsageError.exit_code)


def show_help(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="A command.", metavar="[COMMAND]", autocompletion=completion.commands),
    ] = None,
) -> None:
    """Show the help of a command, or this overview.

    Example: soupctl help avg
    """
    from .overview import command_help

    lines = _overview(context) if name is None else command_help(context, name).splitlines()
    for line in lines:
        put(line)


JOBS: dict[str, dict[str, str]] = {
    "Make and change soups": {
        "avg": "average:average",
        "commit": "parts:commit",
        "ema": "ema:ema",
        "run": "run:run",
        "add": "change:add",
        "subtract": "change:subtract",
        "swap": "change:swap",
        "delta": "delta:delta",
        "apply": "apply:apply",
        "merge": "merge:merge",
        "lora": "lora:lora",
    },
    "Choose by a score": {
        "greedy": "greedy:greedy",
        "search": "search:search",
        "rank": "rank:rank",
    },
    "Inspect and verify": {
        "has": "has:has",
        "log": "log:log",
        "verify": "verify:verify",
        "attest": "attest:attest",
        "bom": "bom:bom",
        "push": "push:push",
        "inspect": "inspect:inspect",
        "diff": "diff:diff",
        "report": "report:report",
        "hash": "hash:hash_files",
        "doctor": "doctor:doctor",
        "bench": "bench:bench",
    },
    "Convert": {"convert": "convert:convert", "record": "record:record"},
    "Train and sample": {
        "finetune": "finetune:finetune",
        "patch-dmp": "patch_dmp:patch_dmp",
        "stack": "stack:stack",
        "sample": "sample:sample",
    },
    "Learn": {"demo": "demo:demo", "help": "app:show_help"},
}
"""The module and function of each command; a command loads no other's, which takes time."""

COMMANDS = {name: place for job in JOBS.values() for name, place in job.items()}


class _CommandsByName(MutableMapping[str, Any]):
    """The commands by name; the options of each are made when it is first asked for.

    To make those of all takes longer than all else that a small command does.
    """

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.made:
            app = typer.Typer(**{**SETTINGS, "add_help_option": True}, add_completion=False)
            app.command(name)(_function_of(name))
            self.made[name] = get_command(app)
        return self.made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self.made[name] = command

    def __delitem__(self, name: str) -> None:
        del self.made[name]

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _CommandGroup(TyperGroup):
    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return self.commands[cmd_name] if cmd_name in COMMANDS else None

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)


def commands() -> TyperGroup:
    """All commands, as the parser that reads a command line."""
    app = typer.Typer(**SETTINGS, cls=_CommandGroup)
    app.callback(invoke_without_command=True)(_top)
    group = get_command(app)
    assert isinstance(group, _CommandGroup)
    group.commands = _CommandsByName()
    return group


def _function_of(name: str) -> Callable[..., Any]:
    """The function of a command, from its module."""
    module, _, function = COMMANDS[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(f".{module}", __package__), function)
    return found


def _summary(name: str) -> str:
    """The first sentence of a command's help."""
    return str(getdoc(_function_of(name))).partition("\n\n")[0].replace("\n", " ")
