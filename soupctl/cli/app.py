"""The commands, by job and name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
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

    return overview(context, JOBS).splitlines()


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


COMPLETING = "_SOUPCTL_COMPLETE"
"""The variable by which a shell asks for completions."""

JOBS: dict[str, dict[str, str]] = {
    "Make and change soups": {
        "avg": "average:average",
        "ema": "ema:ema",
        "run": "run:run",
        "add": "revise:add",
        "subtract": "revise:subtract",
        "swap": "revise:swap",
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
        "has": "history:has",
        "log": "history:log",
        "verify": "proof:verify",
        "attest": "attest:attest",
        "bom": "bom:bom",
        "inspect": "inspect:inspect",
        "diff": "diff:diff",
        "report": "soup_report:report",
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
NEED_ALL = ("demo", "help")
"""The commands that run others, or show their options."""


def commands(words: Sequence[str] | None = None) -> TyperGroup:
    """All commands, as the parser that reads a command line.

    Making the options of a command takes time. So with the `words` of a command line that begins
    with a command, there is that one alone; with other words, all have a name and a summary only,
    but for the first that is named.
    """
    named = next((word for word in words or () if not word.startswith("-")), None)
    every = words is None or named in NEED_ALL or COMPLETING in os.environ
    alone = not every and words is not None and words[:1] == [named] and named in COMMANDS
    app = typer.Typer(**SETTINGS)
    app.callback(invoke_without_command=True)(_top)
    for name in COMMANDS:
        if not alone or name == named:
            function = _function_of(name)
            app.command(name)(function if every or name == named else _summary_of(function))
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def _function_of(name: str) -> Callable[..., Any]:
    """The function of a command, from its module."""
    module, _, function = COMMANDS[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(f".{module}", __package__), function)
    return found


def _summary_of(function: Callable[..., Any]) -> Callable[[], None]:
    """A stand-in for a command in an overview: its docstring and no options."""

    def summary() -> None:
        """Placeholder of the command."""

    summary.__doc__ = function.__doc__
    return summary
