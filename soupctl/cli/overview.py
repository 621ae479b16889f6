"""The texts that `soupctl` alone, `soupctl --help` and `soupctl help` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import typer
from typer.core import TyperGroup

from .usage import require_command

EXAMPLES = (
    "soupctl avg cats.safetensors dogs.safetensors -o soup.safetensors",
    "soupctl subtract soup.safetensors dogs.safetensors -o rest.safetensors",
    "soupctl verify rest.safetensors --level rebuild",
)
HELP = "soupctl COMMAND --help describes a command and its options."
COMPLETION = (
    "soupctl --install-completion lets the shell complete commands, options, dtypes, and the "
    "ingredients of a soup."
)


def overview(context: typer.Context, jobs: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """What soupctl does and the commands of each job, for the width of the terminal.

    A command is its name and a summary.
    """
    root = context.find_root()
    group = group_of(context)
    formatter = root.make_formatter()
    group.format_usage(root, formatter)
    group.format_help_text(root, formatter)
    for job, summaries in jobs.items():
        with formatter.section(job):
            formatter.write_dl(summaries)
    with formatter.section("Options"):
        records = [each.get_help_record(root) for each in group.get_params(root)]
        formatter.write_dl([each for each in records if each is not None])
    with formatter.section("Examples"):
        for example in EXAMPLES:
            formatter.write_text(example)
    with formatter.section("More help"):
        for sentence in (HELP, COMPLETION):
            formatter.write_text(sentence)
    return formatter.getvalue().rstrip("\n")


def command_help(context: typer.Context, name: str) -> str:
    """The help of one command, as its --help prints it; UsageError if there is no such command."""
    group = group_of(context)
    require_command(name, group)
    root = context.find_root()
    command = group.commands[name].make_context(name, [], parent=root, resilient_parsing=True)
    return command.get_help()


def group_of(context: typer.Context) -> TyperGroup:
    """All commands."""
    group = context.find_root().command
    assert isinstance(group, TyperGroup)
    return group
