"""Requested weights by block: a file, the name of a preset, or a classic string of numbers.

Rule 1: numbers are exact: a file's `0.1` is read from its text as one tenth.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import InputError, Issue, UsageError
from ...frozen import frozen
from ...ledger.block_weights import WeightTuple
from ...ledger.weights import parse_number
from ...pattern import pattern
from ...storage.files import read_file
from .presets import PRESETS

LARGEST_FILE = 1 << 18
"""Most bytes of a file of weights by block."""
DOTTED = pattern(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){100}""")
"""Matches a key of a hundred parts, which would take a parser long."""
COUNTS = (26, 20, 61)
"""The possible lengths of a classic string."""
EXAMPLE = 'such as "*.attn2.*" = [0.5, 0.5]'


@frozen
class BlockWeights:
    """The weights of ingredients in some blocks, each in the order of the ingredients."""

    blocks: tuple[tuple[str, WeightTuple], ...]
    """Globs or names of blocks; a tensor is in the first that matches it."""
    default: WeightTuple | None = None
    """The weights in tensors of no block; None for the ingredients' own weights."""

    def __post_init__(self) -> None:
        """Raise UsageError for a weight that is not exact."""
        for weights in (*(weights for _, weights in self.blocks), self.default or ()):
            _require_exact(weights)


@frozen
class ClassicBlocks:
    """The share of the second of two ingredients in each block, in the order of a classic string.

    26 are BASE, IN00 to IN11, M00 and OUT00 to OUT11 of SD 1.x and 2.x; 20 are BASE, IN00 to IN08,
    M00 and OUT00 to OUT08 of SDXL; 61 are CLIP, T5, IN, D00 to D18, S00 to S37 and OUT of Flux.
    """

    shares: WeightTuple

    def __post_init__(self) -> None:
        """Raise UsageError for another number of shares, or one that is not exact."""
        _require_exact(self.shares)
        if len(self.shares) not in COUNTS:
            what = f"--blocks has {len(self.shares)} numbers"
            known = "26 (SD 1.x, 2.x), 20 (SDXL) and 61 (Flux) are known"
            raise UsageError(what, advice=known)


def _require_exact(weights: Sequence[object]) -> None:
    for weight in weights:
        if not isinstance(weight, int | Fraction) or isinstance(weight, bool):
            raise UsageError(f"{weight!r} is not exact", advice="give a Fraction or an int")


def read_blocks(text: str | Path) -> BlockWeights | ClassicBlocks:
    """The weights by block in a file, a preset or a classic string.

    Raises InputError for a file that cannot be read or is not TOML, UsageError for an unknown
    preset or key.
    """
    shown = reprlib.repr(str(text))
    if isinstance(text, Path) or text.endswith(".toml"):
        return _read_file(Path(text))
    if "," in text:
        return ClassicBlocks(tuple(parse_number(each.strip()) for each in text.split(",")))
    if text in PRESETS:
        return ClassicBlocks(tuple(map(parse_number, PRESETS[text].split())))
    if _is_file(text):
        return _read_file(Path(text))
    near = _nearest(text.upper(), PRESETS)
    advice = f"did you mean {near}?" if near else f"such as {', '.join([*PRESETS][:3])}"
    raise UsageError(f"--blocks {shown} is not a file, preset or list of numbers", advice=advice)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:
        # longer than any file name
        return False


def _nearest(name: str, known: Collection[str]) -> str | None:
    return next(iter(get_close_matches(name[:100], known, 1)), None)


def _read_file(path: Path) -> BlockWeights:
    # imported late, because most commands read no such file
    import tomllib

    content = read_file(path, limit=LARGEST_FILE)
    try:
        text = content.decode("utf-8")
        if DOTTED.search(text):
            raise ValueError("a key has more than 100 parts")
        # numbers are kept as text, which is exact
        table = tomllib.loads(text, parse_float=str)
    except RecursionError:
        raise InputError("is not valid TOML: it is nested too deeply", path=path) from None
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"is not valid TOML: {reason}", path=path) from None
    return _parsed(table, path)


def _parsed(table: Mapping[str, Any], path: Path) -> BlockWeights:
    """The weights of a table; UsageError, with all issues, for other keys and values."""
    issues = []
    for key in table:
        if key not in ("default", "blocks"):
            near = _nearest(key, ("default", "blocks"))
            advice = f"did you mean {near}?" if near else "default and [blocks] are known"
            issues.append(Issue(f"{reprlib.repr(key)} is not a known key", path, advice=advice))
    blocks = table.get("blocks", {})
    if not isinstance(blocks, dict):
        issues.append(
            Issue("blocks is not a table", path, advice=f"[blocks], then lines {EXAMPLE}")
        )
        blocks = {}
    default = None if "default" not in table else _weights("default", table["default"], path)
    found = {key: _weights(key, value, path) for key, value in blocks.items()}
    issues += [each for each in (default, *found.values()) if isinstance(each, Issue)]
    if not issues and not found:
        issues.append(Issue("has no weights by block", path, advice=f"[blocks], then {EXAMPLE}"))
    if issues:
        raise UsageError.collected(issues)
    weights = tuple((key, each) for key, each in found.items() if not isinstance(each, Issue))
    return BlockWeights(weights, None if isinstance(default, Issue) else default)


def _weights(key: str, value: object, path: Path) -> WeightTuple | Issue:
    """The weights in a list, or the issue of any other value."""
    shown = reprlib.repr(key)
    if not isinstance(value, list) or not value:
        return Issue(f"{shown} is not a list of weights", path, advice=EXAMPLE)
    try:
        if not all(type(each) in (int, str) for each in value):
            raise UsageError("its weights must be numbers, or texts such as '1/3'")
        return tuple(parse_number(str(each)) for each in value)
    except UsageError as error:
        return Issue(f"{shown}: {error.issues[0].what}", path, advice=error.issues[0].advice)
