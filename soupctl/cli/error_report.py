"""Errors on stderr: one line for a person, or one JSON object for a program, with the same issues.

Rule 1: the object's `message` is that line, so both say the same; its `issues` are never cut off.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..errors import SHOWN, Issue, as_shown, issues_text
from .console import printable


class ErrorStyle:
    """How errors are shown; the options of a command set it while they are parsed."""

    def __init__(self, *, json: bool = False) -> None:
        self.every_issue = False
        """Whether the line names every issue instead of the first few."""
        self.json = json
        """Whether a JSON object replaces the line."""


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether --json is among the options, which is known even if the rest is malformed."""
    return "--json" in arguments[: arguments.index("--") if "--" in arguments else None]


def report(issues: Sequence[Issue], code: int, style: ErrorStyle) -> int:
    """Write an error to stderr; returns its exit code."""
    message = issues_text(issues, None if style.every_issue else SHOWN)
    if style.json:
        text = json.dumps(_as_json(issues, code, message))
    else:
        text = f"soupctl: {printable(message)}"
    with suppress(OSError):
        # written at once, because other processes of a run write to the same stream
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    return code


def _as_json(issues: Sequence[Issue], code: int, message: str) -> dict[str, Any]:
    """The error as an object; its file, tensor and advice are those of the first issue."""
    return {
        "code": code,
        "message": printable(message),
        **_issue_json(issues[0]),
        "issues": [_issue_json(issue) for issue in issues],
    }


def _issue_json(issue: Issue) -> dict[str, str | None]:
    return {
        "what": as_shown(issue.what),
        "file": None if issue.path is None else as_shown(str(issue.path)),
        "tensor": issue.tensor,
        "advice": None if issue.advice is None else as_shown(issue.advice),
    }
