"""The errors that soupctl raises, each with its issues and exit code.

Rule 1: an error carries structured issues: the problem, file, tensor and advice.
Rule 2: one exception collects all issues of its kind, so that a user can fix them in one go.
Rule 3: an issue names options as the command line does; `str` of an error names the arguments of
the Python functions instead: `dtype=F32` for `--dtype F32`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import ClassVar, Self

from .frozen import frozen
from .pattern import pattern

SHOWN = 5
LONGEST_NAME = 200

_SHOWN_AS: dict[str, str] = {}
"""Names of places in messages, where those on this disk would say nothing to the user."""


def show_as(place: str, name: str) -> None:
    """Call everything at a place `name` in messages: a folder that stands for an address."""
    _SHOWN_AS[place] = name


def as_shown(text: str) -> str:
    """The text of a message, with the names of places that are shown, and no secrets."""
    return without_secrets(with_names(text))


def with_names(text: str) -> str:
    """The text with the names of places that it is shown with."""
    for place, name in _SHOWN_AS.items():
        if place in text:
            # the name is inserted as it is, also if it holds a backslash
            text = name.join(re.split(re.escape(place) + r"(?!\w)", text))
    return text


def without_secrets(text: str) -> str:
    """The text, whose web addresses have no user, password and query, which may be secret."""
    return WEB_ADDRESS.sub(r"\1\2", text) if ":/" in text else text


WEB_ADDRESS = pattern(
    r"\b((?:https?|s3|gs):/{1,2}|(?!hf:)[a-z][a-z0-9+.-]*://)"
    r"(?:[^\s/?#@]*@)?([^\s?#]*)(?:[?#][^\s]*)?",
    re.IGNORECASE,
)
"""Matches a web address: what precedes a user and password, and what follows up to a query."""


@frozen
class Issue:
    """One problem: what is wrong, in which file and tensor, and what to do about it."""

    what: str
    path: str | PurePath | None = None
    tensor: str | None = None
    advice: str | None = None

    def __str__(self) -> str:
        given = [str(part) for part in (self.path, self.tensor) if part is not None]
        place = [shortened(as_shown(part)) for part in given]
        advice = f" ({self.advice})" if self.advice else ""
        return as_shown(": ".join([*place, self.what]) + advice)


def issues_text(issues: Sequence[Issue], shown: int | None = SHOWN) -> str:
    """The issues on one line; at most `shown` of them, all for None."""
    kept = issues[:shown]
    rest = len(issues) - len(kept)
    more = [f"and {rest} more (all with -v)"] if rest else []
    return "; ".join([*map(str, kept), *more])


def in_python(text: str) -> str:
    """The text of an issue with arguments in place of options: `force=True` for `-f`."""
    return FLAG.sub(_argument, text)


def _argument(found: re.Match[str]) -> str:
    name = ARGUMENTS.get(found["name"], found["name"].lstrip("-").replace("-", "_"))
    if found["name"] in SWITCHES:
        return f"{name}={SWITCHES[found['name']]}"
    return f"{name}={found['value']}" if found["value"] else name


FLAG = pattern(
    r"(?<![\w-])(?<!ulimit )(?P<name>--[a-z][a-z0-9-]*|-[fow])(?![\w-])"
    r"(?: (?P<value>\d+|[A-Z][A-Z0-9_]*|auto|cpu|first|no)(?!\w))?"
)
"""Matches an option in the text of an issue, with its value if there is one."""
ARGUMENTS = {
    "--count": "total",
    "--density": "densities",
    "--exact": "approximate",
    "--exclude": "excludes",
    "--key": "keys",
    "--lambda": "scale",
    "--no-ema": "ema",
    "--no-keep-sum": "keep_sum",
    "--ray": "workers",
    "--set": "metadata",
    "--sweep": "range",
    "--unset": "without_metadata",
    "-f": "force",
    "-o": "output",
    "-w": "weights",
}
"""Options whose argument in Python has another name."""
SWITCHES = {
    "--again": True,
    "--allow-base-mismatch": True,
    "--allow-nonfinite": True,
    "--approximate": True,
    "--exact": False,
    "--ignore-ledger": True,
    "--keep-sum": True,
    "--no-ema": False,
    "--no-keep-sum": False,
    "--other-base": True,
    "--resize-prompts": True,
    "--skip-bad": True,
    "-f": True,
}
"""Flags, and the value of the argument that stands for each."""


def shortened(name: str) -> str:
    """The name, with its middle left out if it is long: a tensor's name may have 60 kB."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}...{name[-half:]}"


class SoupError(Exception):
    """An error that a user can act on; `exit_code` is the exit status of the command."""

    exit_code: ClassVar[int]

    def __init__(
        self,
        what: str,
        *,
        path: str | PurePath | None = None,
        tensor: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(what)
        self.issues: tuple[Issue, ...] = (Issue(what, path, tensor, advice),)

    @classmethod
    def collected(cls, issues: Iterable[Issue]) -> Self:
        """One error that carries all `issues`, at least one."""
        issues = tuple(issues)
        error = cls(issues[0].what)
        error.issues = issues
        return error

    def message(self, shown: int | None = SHOWN) -> str:
        """The issues on one line; at most `shown` of them, all for None."""
        return issues_text(self.issues, shown)

    def __str__(self) -> str:
        """The message for Python, which names arguments and not options."""
        issues = [
            replace(
                issue,
                what=in_python(issue.what),
                advice=None if issue.advice is None else in_python(issue.advice),
            )
            for issue in self.issues
        ]
        return issues_text(issues, None)


class UsageError(SoupError):
    """A request that no files could satisfy."""

    exit_code = 2


class InputError(SoupError):
    """An input that is unreadable, malformed or non-finite."""

    exit_code = 3


class UnreadableError(InputError):
    """An input that is there, and that the system fails to read."""


class MismatchError(SoupError):
    """Inputs that do not fit each other: names, shapes, dtypes, configs."""

    exit_code = 4


class LedgerError(SoupError):
    """A ledger that is damaged, or contradicts the request or the tensors."""

    exit_code = 5


class OutputError(SoupError):
    """An output that exists, has no room or may not be written; a source that changed."""

    exit_code = 6


class LimitError(SoupError):
    """A limit or a missing device: memory, no GPU, an extra that is not installed."""

    exit_code = 7


class TrainingError(SoupError):
    """A training run that went wrong: a loss or weights that are not finite."""

    exit_code = 8


class ScorerError(SoupError):
    """A scorer that gave no score: it failed, took too long or printed no finite number."""

    exit_code = 8
