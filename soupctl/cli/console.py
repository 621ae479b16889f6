"""Printing names, sizes, digests and JSON.

Rule 1: no control character from a file reaches a terminal.
Rule 2: addresses are shown without passwords and queries.
Rule 3: results go to stdout, messages to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import with_names
from ..ledger.names import SHORT_DIGEST

if TYPE_CHECKING:
    from fractions import Fraction

    from ..ledger.ledger import Change, IngredientEntry, Ledger

LINES = 1000
"""Lines that are written at once."""


def printable(text: str) -> str:
    """The text as it is shown: it cannot steer a terminal, and says nothing that is secret."""
    text = with_names(text)
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def size_text(size: float) -> str:
    """Bytes for people, in powers of 1000: `1.72 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def counted(number: int, noun: str) -> str:
    """A count with its noun: `1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_terminal() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr.isatty()


def is_silent(quiet: bool, verbose: bool) -> bool:
    """Whether reports of results are left out: with -q, and without -v if stderr is no terminal."""
    return quiet or not (verbose or is_terminal())


def say(text: str, quiet: bool = False) -> None:
    """Print a message on stderr."""
    if not quiet:
        # written at once, because other processes of a run write to the same stream
        sys.stderr.write(f"{printable(text)}\n")


def put(text: str) -> None:
    """Print a line of the result on stdout."""
    print(printable(text))


def put_lines(lines: Iterable[str], margin: str = "") -> None:
    """Print lines of the result on stdout, many at once, since there may be thousands."""
    waiting = iter(lines)
    while some := list(islice(waiting, LINES)):
        sys.stdout.write("".join([f"{margin}{printable(line)}\n" for line in some]))


def put_json(value: object) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(_with_names(value), indent=2, ensure_ascii=True))


def _with_names(value: Any) -> Any:
    """The value, whose texts have the names that places are shown with."""
    if isinstance(value, str):
        return with_names(value)
    if isinstance(value, Mapping):
        return {key: _with_names(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_names(each) for each in value]
    return value


def shows_whole_digests(verbose: bool) -> bool:
    """Whether digests on stdout are shown whole: with -v, and if stdout is not a terminal."""
    return verbose or not sys.stdout.isatty()


def digest_text(digest: str, *, whole: bool) -> str:
    """A digest as a command shows it: whole, or shortened to its first hexadecimal digits."""
    kind, _, digits = digest.partition(":")
    return digest if whole else f"{kind}:{digits[:SHORT_DIGEST]}"


def shares_json(ledger: Ledger) -> list[dict[str, Any]]:
    """The ingredients of a ledger as JSON, each with its exact weight and its share of the soup.

    Where deltas are applied, it is told which ingredient is the base, or which are the deltas.
    """
    found = []
    for entry, share in zip(ledger.ingredients, ledger.known_shares, strict=True):
        kind = {"is_base": entry.digest == ledger.base} if ledger.base is not None else {}
        kind |= {"is_delta": ledger.adds(entry)} if ledger.deltas else {}
        found.append(
            {**entry_json(entry), "share": None if share is None else float(share), **kind}
        )
    return found


def method_json(ledger: Ledger) -> dict[str, Any]:
    """The method of a merge and its settings under one key; empty for any other soup."""
    if ledger.method is None:
        return {}
    return {"method": {"name": ledger.method.method.value, **dict(ledger.method.settings)}}


UNDIVIDED = "not divided by the total weight"
"""What is said of a soup that is a weighted sum, not a mean."""


def share_text(share: Fraction | None) -> str:
    """A share in percent, aligned to the right; a dash where there is none."""
    return f"{'-':>8}" if share is None else f"{float(share):8.3%}"


def role_text(ledger: Ledger, entry: IngredientEntry) -> str:
    """An ingredient's weight in words: `weight 2`, or `scale 2` of a delta."""
    if ledger.adds(entry) and ledger.method is None:
        return f"scale {entry.weight}{by_block(entry)}"
    if entry.digest == ledger.base and entry.weight > 0:
        return "base"
    return f"weight {entry.weight}{by_block(entry)}"


def entry_json(entry: IngredientEntry) -> dict[str, Any]:
    """One ingredient of a ledger as JSON, with its exact weight."""
    return {
        "name": entry.name,
        "digest": entry.digest,
        **weight_json(entry),
        "hint": entry.hint,
        **({"schemes": list(entry.schemes)} if entry.schemes else {}),
    }


def weight_json(each: IngredientEntry | Change) -> dict[str, Any]:
    """An exact weight as JSON, with the weights by block if they differ."""
    blocks = {"blocks": list(map(str, each.blocks))} if each.blocks else {}
    return {"weight": str(each.weight), **blocks}


def by_block(each: IngredientEntry) -> str:
    """The suffix of a weight that differs in some blocks; empty otherwise."""
    return " and others by block" if each.blocks else ""
