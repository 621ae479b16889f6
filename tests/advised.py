"""Texts of the package that name an option, and options read out of the advice of a refusal.

Rule 1: the texts come from the source itself, so a new refusal that names an option is seen.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

PACKAGE = Path(__file__).parent.parent / "soupctl"
OPTION = re.compile(
    r"(?<![\w-])(?P<name>--[a-z][a-z0-9-]*|-[fow])(?![\w-])"
    r"(?:[ =](?P<value>'[^']*'|[A-Z][A-Z0-9_]*(?!\w)|[\w./-]*[\w/]))?"
)
DECLARATIONS = ("Option", "Argument", "command", "compile")
"""Functions whose texts are help or patterns."""


@dataclass(frozen=True)
class Refused:
    """A command that is refused, and what its advice leaves to the user."""

    command: str
    says: tuple[str, ...]
    """The texts of the source that its message has."""
    values: Mapping[str, str] = field(default_factory=dict)
    """By option: a value that the advice cannot know, such as a folder to search."""
    instead: tuple[str, ...] = ()
    """Commands that do what the message says, where it cannot be followed to the letter."""
    ends: int = 0
    """The exit code of a command that has followed the advice: 1 where the answer is no then."""


def texts_with_options(is_in: Callable[[PurePath], bool]) -> set[str]:
    """Every text that names an option, but for docstrings and help, in some files of the package.

    What a text is filled with is `{}`.
    """
    found: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if is_in(path.relative_to(PACKAGE)):
            found.update(_texts(ast.parse(path.read_text())))
    return found


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in DECLARATIONS:
            return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    text = _text(node)
    if text is None:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)
    elif OPTION.search(text) and not OPTION.fullmatch(text):
        yield text


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (each.value if isinstance(each, ast.Constant) else "{}" for each in node.values)
        return "".join(map(str, parts))
    return None


def is_said(text: str, message: str) -> bool:
    """Whether a message has a text of the source, filled with anything."""
    return re.search(".*".join(map(re.escape, text.split("{}"))), message) is not None


def advice_in(message: str) -> list[str]:
    """What the parentheses of a message say, the last first."""
    return re.findall(r"\(((?:[^()]|\([^()]*\))*)\)", message)[::-1]


def followed(
    arguments: Sequence[str], message: str, values: Mapping[str, str]
) -> Iterator[list[str]]:
    """The command after each way that the advice in a message names by an option."""
    for advice in advice_in(message):
        if found := LEAVE_OUT.search(advice):
            yield _without(arguments, [each["name"] for each in OPTION.finditer(advice)])
        kept = advice[: found.start()] if found else advice
        for option in OPTION.finditer(kept):
            before, after = kept[: option.start()], kept[option.end() :]
            if before.endswith(("instead of ", "made with ")) or option["name"] == "--help":
                continue
            left = list(arguments)
            if instead := INSTEAD.match(after):
                left = _without(left, [instead[1]])
            if before.endswith("avg "):
                left = ["avg", *_without(left[1:], OF_CHANGES)]
            yield _with(left, option["name"], _value(option, values))


LEAVE_OUT = re.compile(r"\b(leave out|remove) (?=.*-)")
INSTEAD = re.compile(r".* instead of (-[\w-]+)")
OF_CHANGES = ("--again", "--approximate", "--exact", "--count", "--total", "--search")


def _value(option: re.Match[str], values: Mapping[str, str]) -> str | None:
    name, value = option["name"], option["value"]
    if name in values:
        return values[name]
    if value is None or value in WORDS:
        return None
    return value.strip("'")


WORDS = frozenset(
    [
        "adds",
        "allows",
        "applies",
        "asks",
        "computes",
        "does",
        "gives",
        "has",
        "is",
        "leaves",
        "lets",
        "looks",
        "makes",
        "needs",
        "picks",
        "replaces",
        "says",
        "takes",
        "to",
        "treats",
    ]
)
"""Words that follow the name of an option and are no value of it."""


def _with(arguments: Sequence[str], name: str, value: str | None) -> list[str]:
    """The arguments with the option, in the place of one that is there already."""
    left = _without(arguments, [name]) if value is not None else list(arguments)
    return [*left, name] if value is None else [*left, name, value]


def _without(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    left, skips = [], False
    for argument in arguments:
        if skips:
            skips = False
        elif argument in names:
            skips = argument not in SWITCHES
        else:
            left.append(argument)
    return left


SWITCHES = [
    "--approximate",
    "--exact",
    "--json",
    "--keep-sum",
    "--no-keep-sum",
    "--sha256",
    "--summary",
    "--tensors",
]
