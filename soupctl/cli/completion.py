"""Shell completion of dtypes, commands, and the ingredients of the soup on the command line.

Rule 1: only plain words are offered, since names are untrusted text that a shell might interpret.
Rule 2: a soup that cannot be read offers nothing, and no error disturbs the line being typed.
"""

from __future__ import annotations

import typer

from ..errors import SoupError
from ..ledger.names import SHORT_DIGEST
from ..pattern import pattern
from .hub_option import CHECKPOINTS, NAME

PLAIN_WORD = pattern(r"[A-Za-z0-9_.][A-Za-z0-9_./+@%=,:-]*")


def dtypes(incomplete: str) -> list[str]:
    """The float dtypes that begin with this text."""
    from ..format.dtypes import FLOATS

    return [dtype.value for dtype in FLOATS if dtype.value.startswith(incomplete.upper())]


def commands(context: typer.Context) -> list[str]:
    """The names of all commands."""
    return list(getattr(context.find_root().command, "commands", ()))


def ingredients(context: typer.Context, incomplete: str) -> list[str]:
    """The names of a soup's ingredients, or their digests if the text begins one."""
    from .. import verbs

    try:
        soup = str(context.params.get("soup"))
        is_on_hub = bool(context.params.get(NAME))
        found = verbs.history(CHECKPOINTS.resolved(soup) if is_on_hub else soup)
    except (SoupError, OSError):
        return []
    entries = [entry for _, ledger in found for entry in ledger.ingredients]
    if incomplete.startswith("blake3:"):
        end = max(len("blake3:") + SHORT_DIGEST, len(incomplete))
        offered = [entry.digest[:end] for entry in entries]
    else:
        offered = [entry.name for entry in entries]
    return sorted(word for word in set(offered) if PLAIN_WORD.fullmatch(word))
