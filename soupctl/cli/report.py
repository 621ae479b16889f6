"""Refusals on stderr: one line for a person, one JSON object for a program, from the same issues.

Rule 1: the object's `message` is the line, so both say the same; its `issues` are all there are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import SHOWN, Issue, issues_text
from .console import printable


@dataclass
class ErrorStyle:
    """How a refusal is shown, as the options of a command ask; they set it as they are read."""

    every_issue: bool = False
    """The line names every issue, and not only the first few."""
    json: bool = False
    """A JSON object takes the place of the line."""


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether --json is among the options, which is known even if the rest cannot be parsed."""
    return "--json" in arguments[: arguments.index("--") if "--" in arguments else None]


def report(issues: Sequence[Issue], code: int, style: ErrorStyle) -> int:
    """Write a refusal to stderr; hands its exit code on."""
    message = issues_text(issues, None if style.every_issue else SHOWN)
    if style.json:
        text = json.dumps(_as_json(issues, code, message))
    else:
        text = f"soupctl: {printable(message)}"
    with suppress(OSError):
        # in one piece, as other processes of a run write there, too
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    return code


def _as_json(issues: Sequence[Issue], code: int, message: str) -> dict[str, Any]:
    """The refusal as an object; file, tensor and advice of its own are those of the first issue."""
    return {
        "code": code,
        "message": printable(message),
        **_issue_json(issues[0]),
        "issues": [_issue_json(issue) for issue in issues],
    }


def _issue_json(issue: Issue) -> dict[str, str | None]:
    return {
        "what": issue.what,
        "file": None if issue.path is None else str(issue.path),
        "tensor": issue.tensor,
        "advice": issue.advice,
    }
