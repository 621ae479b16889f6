"""Which ingredients of a soup a text means: a name, a content digest or the digest of a data shard.

Rule 1: pure; paths of files are resolved before these functions are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import chain

from ..checkpoints.digest import PREFIX
from ..errors import LedgerError
from .ledger import IngredientEntry, Ledger, descendants_of
from .names import SHORT_DIGEST


def matching(
    text: str, entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> tuple[IngredientEntry, ...]:
    """The entries with this digest, this name, or training data of this digest.

    A digest may be shortened to its first 12 hexadecimal digits, as commands show it on a terminal.
    """
    return tuple(
        entry
        for entry in entries
        if text == entry.name
        or is_digest(text, entry.digest)
        or is_digest(text, data_digest(entry, ancestors))
    )


def is_digest(text: str, digest: str | None) -> bool:
    """Whether the text is this digest, whole or shortened."""
    is_short = len(text) >= len(PREFIX) + SHORT_DIGEST and text.startswith(PREFIX)
    return digest is not None and (text == digest or (is_short and digest.startswith(text)))


def data_digest(entry: IngredientEntry, ancestors: Mapping[str, Ledger]) -> str | None:
    """The digest of the data shard that an ingredient was trained on, if that is known."""
    known = ancestors.get(entry.digest)
    return None if known is None or known.training is None else known.training.data


def digests_of(text: str, ledger: Ledger, weight: Fraction | None) -> tuple[str, ...]:
    """The content digests of the ingredients that a text means.

    The digest of a data shard means every ingredient that was trained on it. Raises LedgerError for
    a text that matches none, for a name of several, and for several that would share a `weight`.
    """
    found = matching(text, ledger.ingredients, ledger.ancestors)
    if not found:
        raise not_found(text, ledger)
    is_data = any(is_digest(text, data_digest(each, ledger.ancestors)) for each in found)
    if len(found) > 1 and not is_data:
        what, advice = "is the name of several ingredients", "give the digest of one"
        raise LedgerError(what, path=text, advice=advice)
    if len(found) > 1 and weight is not None:
        what = f"is the training data of {len(found)} ingredients, and a weight belongs to one"
        raise LedgerError(what, path=text, advice=f"name one of {_listed(found)}")
    return tuple(entry.digest for entry in found)


def not_found(text: str, ledger: Ledger) -> LedgerError:
    """The refusal of a text that means neither a file nor an ingredient in the ledger."""
    if holders := containing((text,), ledger):
        what, advice = (
            f"is in the soup as part of {_listed(holders)}",
            "swap replaces it as a whole",
        )
        return LedgerError(what, path=text, advice=advice)
    advice = f"it holds {_listed(ledger.ingredients)}"
    return LedgerError("is neither a file nor an ingredient of the soup", path=text, advice=advice)


def containing(texts: Sequence[str], ledger: Ledger) -> list[IngredientEntry]:
    """The ingredients of a soup that match one of the texts, or are made of one that does."""
    soups = (ledger, *ledger.ancestors.values())
    every = list(chain.from_iterable(soup.ingredients for soup in soups))
    meant = (entry.digest for text in texts for entry in matching(text, every, ledger.ancestors))
    holders = descendants_of(meant, ledger.ancestors)
    return [entry for entry in ledger.ingredients if entry.digest in holders]


def _listed(entries: Sequence[IngredientEntry]) -> str:
    return ", ".join(entry.name for entry in entries[:5])
