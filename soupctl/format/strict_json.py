"""Reads JSON as strictly as the safetensors library does.

Rule 1: UTF-8 without a byte order mark, no NaN or infinity, no lone surrogate, no number beyond
float64, at most 127 levels deep: what the library refuses is refused.
Rule 2: no object holds the same key twice, at any depth; the library keeps the last one.
Rule 3: every error is a ValueError with a message; no other exception escapes.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator
from math import isinf
from typing import Any

from ..pattern import pattern

DEEPEST = 127
# the longest 64-bit integer; longer numbers are read as floats, as in the library
INTEGER_TEXT = 20

OPENING = pattern(r"[ \t\n\r]*\{[ \t\n\r]*")
COLON = pattern(r"[ \t\n\r]*:[ \t\n\r]*")
SEPARATOR = pattern(r"[ \t\n\r]*([,}])[ \t\n\r]*")
SURROGATE = pattern("[\ud800-\udfff]")


def decode(raw: bytes) -> str:
    """The text of `raw`, which must be UTF-8 without a byte order mark."""
    text = raw.decode("utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark")
    return text


def parse_object(text: str) -> dict[str, Any]:
    """The object that `text` holds, and nothing but it."""
    return dict(members(text))


def parse_config(text: str) -> dict[str, Any]:
    """The object that `text` holds; as Python writes it, so it may hold NaN and infinities."""
    return dict(members(text, decoder=CONFIG_DECODER))


Usual = Callable[[str, int], Iterator[tuple[str, Any, int]]]
"""Reads members from a position on that are written in a usual form, and followed by others.

Each is its name, its value, and where the next one begins. The form admits only what the rules of
this module do; the first member in another form ends it.
"""


def members(
    text: str, usual: Usual | None = None, decoder: json.JSONDecoder | None = None
) -> Iterator[tuple[str, Any]]:
    """The members of the object that `text` holds, one at a time, so that few are held at once."""
    position = _after(OPENING, text, 0, "an object")
    if text.startswith("}", position):
        _require_end(text, SEPARATOR.match(text, position))
        return
    seen: set[str] = set()
    while True:
        for key, value, after in () if usual is None else usual(text, position):
            if key in seen:
                raise ValueError(f"the name {reprlib.repr(key)} occurs twice")
            seen.add(key)
            position = after
            yield key, value
        key, value, position = _member(text, position, decoder or DECODER)
        if key in seen:
            raise ValueError(f"the name {reprlib.repr(key)} occurs twice")
        seen.add(key)
        yield key, value
        separator = SEPARATOR.match(text, position)
        if separator is None:
            raise ValueError(f"character {position}: expected a comma or a closing brace")
        position = separator.end()
        if separator[1] == "}":
            _require_end(text, separator)
            return


def _member(text: str, begin: int, decoder: json.JSONDecoder) -> tuple[str, Any, int]:
    """The name and value of the member at a position, and where it ends."""
    if not text.startswith('"', begin):
        raise ValueError(f"character {begin}: expected a name in double quotes")
    key, position = _scan(decoder, text, begin)
    value, position = _scan(decoder, text, _after(COLON, text, position, "a colon"))
    _require_plain(text, begin, position, key, value)
    return key, value, position


def _after(pattern: re.Pattern[str], text: str, position: int, expected: str) -> int:
    found = pattern.match(text, position)
    if found is None:
        raise ValueError(f"character {position}: expected {expected}")
    return found.end()


def _require_end(text: str, closing: re.Match[str] | None) -> None:
    if closing is None or closing.end() != len(text):
        raise ValueError("something follows the object")


def _scan(decoder: json.JSONDecoder, text: str, position: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, position)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None


def _require_plain(text: str, begin: int, end: int, key: str, value: object) -> None:
    """Check depth and lone surrogates, but only if the text may have them."""
    brackets = text.count("[", begin, end) + text.count("{", begin, end)
    if brackets < DEEPEST and text.find("\\u", begin, end) < 0:
        return
    items: list[Any] = [key, value]
    # the enclosing object is the first level
    depth = 2
    while items:
        if any(_has_surrogate(item) for item in items if isinstance(item, str)):
            raise ValueError(f"{reprlib.repr(key)} is or holds a lone surrogate")
        if depth > DEEPEST and any(isinstance(item, dict | list) for item in items):
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        items = [part for item in items for part in _parts(item)]
        depth += 1


def _has_surrogate(text: str) -> bool:
    # known without a search in most texts
    return not text.isascii() and SURROGATE.search(text) is not None


def _parts(item: object) -> list[Any]:
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    return item if isinstance(item, list) else []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"the name {reprlib.repr(twice)} occurs twice")
    return result


def _integer(text: str) -> int | float:
    # the library reads -0 as a float, so it is not a valid dimension
    return int(text) if text != "-0" and len(text) <= INTEGER_TEXT else _float(text)


def _float(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError(f"the number {reprlib.repr(text)} is out of range")
    return number


def _constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
CONFIG_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_float)
