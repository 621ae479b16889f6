"""Helpers for recipe files: TOML with exact numbers, and digests."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from ...checkpoints.open import STREAM
from ...errors import InputError
from ...pattern import pattern
from ...storage.files import STANDARD_INPUT, read_file, read_stream
from ..blocks.request import DOTTED

LARGEST_FILE = 1 << 20
"""Most bytes of a recipe."""
DIGEST = pattern(r"blake3:[0-9a-f]{64}")


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file, decimals as texts; InputError for any other file.

    The path `-` is standard input.
    """
    is_stream = str(path) == STREAM
    content = read_stream(LARGEST_FILE) if is_stream else read_file(path, limit=LARGEST_FILE)
    label = STANDARD_INPUT if is_stream else path
    try:
        text = content.decode("utf-8")
        if DOTTED.search(text):
            raise ValueError("a key has more than 100 parts")
        return tomllib.loads(text, parse_float=str)
    except RecursionError:
        raise InputError("is not valid TOML: it is nested too deeply", path=label) from None
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"is not valid TOML: {reason}", path=label) from None


def is_digest(value: object) -> bool:
    """Whether a value is a complete content digest."""
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def quoted(text: str) -> str:
    """A text in TOML's syntax, which is JSON's except for one control character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
