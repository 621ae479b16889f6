"""Training options from a TOML file.

Values are checked by hand, not by a library such as msgspec: one message names every unknown and
every malformed option of a file, where msgspec stops at the first, and an unknown name comes with
the nearest known one.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import InputError, Issue, UsageError
from ..storage.files import read_file
from .option_fields import shown_value

LARGEST_CONFIG = 1 << 18
"""Most bytes of a config."""
DOTTED = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){100}""")
"""A key of a hundred parts, such as `a.b.c`."""
LONGEST_REASON = 200
"""Characters of a parser's message that are shown."""
LONGEST_NAME = 100
"""Characters of an unknown name that are compared with those of options."""


def read_config(path: Path, kinds: Collection[type]) -> dict[str, Any]:
    """The options in a TOML file by name, converted to the types of the fields of `kinds`.

    Raises InputError for a file that is not TOML, UsageError for unknown or malformed options.
    """
    content = read_file(path, limit=LARGEST_CONFIG)
    try:
        text = content.decode("utf-8-sig")
        if DOTTED.search(text):
            # the time of tomllib grows with the square of the number of parts
            raise ValueError("a key has more than 100 parts")
        table = tomllib.loads(text)
    except RecursionError:
        raise InputError("is not valid TOML: it is nested too deeply", path=path) from None
    except ValueError as error:
        reason = shown_value(" ".join(str(error).split()), LONGEST_REASON)
        raise InputError(f"is not valid TOML: {reason}", path=path) from None
    return converted(table, path, kinds)


def converted(table: Mapping[str, Any], source: Path, kinds: Collection[type]) -> dict[str, Any]:
    """The values of a TOML table, converted to the types of the fields of `kinds`.

    Raises UsageError, naming `source` and all issues, for unknown or malformed options.
    """
    types_by_name = {
        name: kind for owner in kinds for name, kind in typing.get_type_hints(owner).items()
    }
    found, issues = {}, []
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in types_by_name:
            what = f"{reprlib.repr(key)} is not an option{_hint(name, types_by_name)}"
            issues.append(Issue(what, source))
            continue
        try:
            found[name] = _converted(types_by_name[name], value)
        except (TypeError, ValueError, OverflowError):
            text = type_text(types_by_name[name])
            issues.append(Issue(f"{key} = {reprlib.repr(value)} is not {text}", source))
    if issues:
        raise UsageError.collected(issues)
    return found


def _hint(name: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name[:LONGEST_NAME], known, 1)
    return f"; did you mean {nearest[0].replace('_', '-')}?" if nearest else ""


def _required(kind: Any) -> Any:
    """The required type of a value: for an optional one, its type without None."""
    return typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind


def _converted(kind: Any, value: Any) -> Any:
    """The value as a `kind`; TypeError or ValueError if it cannot be."""
    kind = _required(kind)
    if typing.get_origin(kind) is tuple:
        each = typing.get_args(kind)[0]
        values = [value] if type(value) is each else value
        if not isinstance(values, list) or not all(type(one) is each for one in values):
            raise TypeError("not a list of such values")
        return tuple(values)
    if issubclass(kind, StrEnum):
        return kind(value)
    # in Python, True is an int, and 1 is a valid float
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:
        raise TypeError("another type is needed")
    return kind(value)


def type_text(kind: Any) -> str:
    """The expected type of a config value, in words: `a whole number`, `one of a, b`."""
    kind = _required(kind)
    if typing.get_origin(kind) is tuple:
        each = typing.get_args(kind)[0]
        return f"a list of {'strings' if each is str else 'whole numbers'}"
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}[kind]
