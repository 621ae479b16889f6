"""Regular expressions that are compiled when they are first used, which most never are."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


class _LatePattern:
    """Compiles its text when a method of `re.Pattern` is first asked for, and then keeps that."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self.text = text
        self.asked = flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self.text, self.asked), name)
        self.__dict__[name] = found
        return found


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` returns; a mistake in `text` is raised when it is first used."""
    return cast("re.Pattern[AnyStr]", _LatePattern(text, flags))
