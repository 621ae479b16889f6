"""Sizes in bytes, as users write them."""

from __future__ import annotations

import re
from fractions import Fraction

from ..errors import UsageError

# enough digits for any size; Python refuses to parse thousands of them
SIZE = r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([kmgt]?)(i?b)?"
LONGEST_SHOWN = 40


def parse_size(text: str | None, option: str) -> int | None:
    """Bytes of a size such as `512M` or `5GB`; M and MiB are powers of 1024, MB of 1000."""
    if text is None:
        return None
    found = re.fullmatch(SIZE, text.strip(), re.IGNORECASE)
    if not found:
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
        raise UsageError(f"{option} {shown!r} is not a size", advice="such as 512M or 5GB")
    number, prefix, suffix = found.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    size = int(Fraction(number) * base ** " kmgt".index(prefix.lower() or " "))
    if size < 1:
        raise UsageError(f"{option} must be positive")
    return size
