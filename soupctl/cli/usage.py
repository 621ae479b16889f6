"""Errors of the command-line parser, explained and with a suggested correction."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

import typer
from typer.core import TyperGroup

from ..checkpoints.layout import SUFFIXES
from ..checkpoints.remote.hub_ids import START, is_hub_id
from ..errors import FLAG, Issue, UsageError
from ..pattern import pattern
from .hub_option import OPTION as HUB
from .suggest import meant_command, meant_option

EXTRA = pattern(r"Got unexpected extra argument\(s\) \((.*)\)", re.DOTALL)
NO_NUMBER = pattern(r"(.*) is not a valid (int|float)( range)?\.", re.DOTALL)
RANGE = pattern(r"(.*) is not in the range (.*)\.", re.DOTALL)
"""Messages of the parser that ours replace; `test_usage.py` notices when they change."""
KINDS = {"int": "a whole number", "float": "a number"}


def issue_of(error: typer.TyperException, arguments: Sequence[str], group: TyperGroup) -> Issue:
    """The issue of a command line that the parser refused with `error`."""
    command = next((each for each in arguments if not each.startswith("-")), None)
    option = getattr(error, "option_name", None)
    if command is not None and command not in group.commands and option is None:
        return unknown_command(command, group)
    before = arguments[: arguments.index(command)] if command is not None else arguments
    if command not in group.commands or option in before:
        return _misplaced(str(option), command, group)
    assert command is not None
    advice = f"soupctl {command} --help describes its options"
    if type(error).__name__ == "NoSuchOption":
        meant = meant_option(str(option), command, _options(group))
        what = f"{command} has no option {option}"
        return Issue(what, advice=_joined(meant, advice))
    return Issue(f"{command}: {_problem(error, option)}", advice=advice)


def for_command(
    issues: Sequence[Issue], arguments: Sequence[str], group: TyperGroup
) -> tuple[Issue, ...]:
    """The issues of a command; their advice mentions options that only `avg` has."""
    command = next((each for each in arguments if not each.startswith("-")), None)
    own = _options_of(command, group) if command and command in group.commands else []

    def named(found: re.Match[str]) -> str:
        is_elsewhere = found["name"] not in own and found["name"] in _options_of(MAKES_ANEW, group)
        is_said = found.string[: found.start()].endswith((f"{MAKES_ANEW} ", f"{command} "))
        return f"{MAKES_ANEW} {found[0]}" if is_elsewhere and not is_said else found[0]

    if HUB in own:
        about_hub = _with_path if HUB in arguments else _with_hub
        issues = [about_hub(each, arguments) for each in issues]
    return tuple(
        each if each.advice is None else replace(each, advice=FLAG.sub(named, each.advice))
        for each in issues
    )


def _with_hub(issue: Issue, _: Sequence[str]) -> Issue:
    """The issue, with advice where an absent file may be a repository of the hub."""
    if issue.what != ABSENT or issue.path is None or issue.advice is not None:
        return issue
    text = str(issue.path)
    # the name of a repository hardly ends like that of a checkpoint
    is_file = text.count("/") == 1 and text.endswith(SUFFIXES)
    is_id = is_hub_id(text) and not is_file
    return replace(issue, advice=f"{HUB} reads it from the hub") if is_id else issue


def _with_path(issue: Issue, arguments: Sequence[str]) -> Issue:
    """The issue of a repository that was named without `hf://`: there is no such path, either."""
    address = str(issue.path)
    plain = address.removeprefix(START)
    is_plain = plain != address and not any(address in each for each in arguments)
    if not is_plain or not issue.what.startswith(UNREAD) or os.path.lexists(plain):
        return issue
    return replace(issue, advice=_joined(issue.advice, f"there is no path {plain} here"))


UNREAD = ("cannot be read", "is not the name of a repository")
ABSENT = f"cannot be read: {os.strerror(errno.ENOENT)}"
MAKES_ANEW = "avg"
"""The command that makes a new soup, and has the most options."""


def unknown_command(name: str, group: TyperGroup) -> Issue:
    """The issue of an unknown command."""
    meant = meant_command(name, group.commands)
    question = f"did you mean {meant}?" if meant else None
    advice = _joined(question, "soupctl --help lists all commands")
    return Issue(f"there is no command {name}", advice=advice)


def require_command(name: str, group: TyperGroup) -> None:
    """Raise UsageError unless there is a command of that name."""
    if name not in group.commands:
        raise UsageError.collected([unknown_command(name, group)])


def _misplaced(option: str, command: str | None, group: TyperGroup) -> Issue:
    """The issue of an option that stands before any command."""
    what = f"{option} is not an option of soupctl itself"
    if any(option in own for own in _options(group).values()):
        example = f"soupctl {command if command in group.commands else 'COMMAND'} {option}"
        return Issue(what, advice=f"write it after the command: {example}")
    near = get_close_matches(option, [each for own in group.params for each in own.opts], 1)
    question = f"did you mean {near[0]}?" if near else None
    return Issue(what, advice=_joined(question, "soupctl --help lists all options"))


def _joined(first: str | None, second: str) -> str:
    """Two pieces of advice as one; the first may be missing, or a question."""
    if first is None:
        return second
    return f"{first} {second}" if first.endswith("?") else f"{first}; {second}"


def _options(group: TyperGroup) -> dict[str, list[str]]:
    """The options of every command."""
    return {name: _options_of(name, group) for name in group.commands}


def _options_of(name: str, group: TyperGroup) -> list[str]:
    return [
        option
        for each in group.commands[name].params
        if each.param_type_name == "option"
        for option in (*each.opts, *each.secondary_opts)
    ]


def _problem(error: typer.TyperException, option: str | None) -> str:
    """The problem, without the command's name."""
    kind = type(error).__name__
    if kind == "BadOptionUsage":
        needs = "requires" in error.message
        return f"{option} needs a value" if needs else f"{option} takes no value"
    parameter = getattr(error, "param", None)
    if kind == "MissingParameter" and parameter is not None:
        return f"{parameter.human_readable_name} is missing"
    if isinstance(error, typer.BadParameter) and parameter is not None:
        return f"{max(parameter.opts, key=len)}: {_value_problem(error.message)}"
    if extra := EXTRA.fullmatch(error.message):
        return f"unexpected argument {extra[1]}"
    return error.format_message().rstrip(".")


def _value_problem(message: str) -> str:
    if found := NO_NUMBER.fullmatch(message):
        return f"{found[1]} is not {KINDS[found[2]]}"
    if found := RANGE.fullmatch(message):
        return f"{found[1]} is out of range ({found[2]})"
    return message.rstrip(".")
