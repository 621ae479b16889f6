"""Looking up ingredients of a soup by a text: a name, a content digest or a data shard.

Rule 1: pure; paths of files are resolved before these functions are called.
Rule 2: an ambiguous text is refused unless all its meanings are the same ingredients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from itertools import chain

from ..checkpoints.digest import PREFIX
from ..checkpoints.layout import SUFFIXES
from ..errors import LedgerError
from ..frozen import frozen
from ..pattern import pattern
from .changes import ANOTHER_TAKE
from .descent import with_descendants
from .ledger import UNKNOWN, IngredientEntry, Ledger
from .names import SHORT_DIGEST
from .training_record import TrainingRecord

DIGITS = pattern(rf"(?P<prefix>{PREFIX})?(?P<digits>[0-9a-f]+)", re.IGNORECASE)
FEWEST, FEWEST_BARE = 4, 8
"""Fewest digits of a shortened digest: with its prefix, and without."""


@frozen
class Meaning:
    """One meaning of a text, and the ingredients that are it or contain it."""

    digest: str
    """Digest of an ingredient's content, or of a data shard."""
    is_data: bool
    entries: tuple[IngredientEntry, ...]


def meanings(
    text: str, entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> tuple[Meaning, ...]:
    """Every meaning of a text: ingredients and data shards, by digest.

    A name in the ledger takes precedence over a digest, and that over a name without its suffix and
    the name of a data shard. A digest may be shortened, and lack its prefix.
    """
    known = list(_known(entries, ancestors))
    digest = as_digest(text)
    found = [each for each, name in known if name == text and not each.is_data]
    if not found and digest is not None:
        found = [each for each, _ in known if each.digest.startswith(digest)]
    if not found:
        found = [each for each, name in known if text == (name if each.is_data else _stem(name))]
    having: dict[tuple[str, bool], list[IngredientEntry]] = {}
    for each in found:
        having.setdefault((each.digest, each.is_data), []).extend(each.entries)
    return tuple(Meaning(*key, tuple(dict.fromkeys(its))) for key, its in having.items())


def _known(
    entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> Iterable[tuple[Meaning, str]]:
    """Each entry by its name, and the data shard that it was trained on, if that is known."""
    for entry in entries:
        yield Meaning(entry.digest, False, (entry,)), entry.name
        known = ancestors.get(entry.digest)
        if known is not None and known.training is not None:
            yield Meaning(known.training.data, True, (entry,)), known.training.data_name


def _stem(name: str) -> str:
    """A name without the suffix of a weights file."""
    return next((name.removesuffix(each) for each in SUFFIXES if name.endswith(each)), name)


def as_digest(text: str) -> str | None:
    """The digest that a text is or abbreviates, as `blake3:` and digits; None for other texts."""
    found = DIGITS.fullmatch(text)
    if found is None or len(found["digits"]) < (FEWEST if found["prefix"] else FEWEST_BARE):
        return None
    return PREFIX + found["digits"].lower()


def whole_digest(text: str) -> str | None:
    """The whole digest in a text, with or without its prefix; None for any other text."""
    digest = as_digest(text)
    return digest if digest is not None and len(digest) == len(UNKNOWN) else None


def matching(
    text: str, entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> tuple[IngredientEntry, ...]:
    """The entries that a text may mean, or that were trained on a data shard of that name."""
    found = chain.from_iterable(each.entries for each in meanings(text, entries, ancestors))
    return tuple(dict.fromkeys(found))


def names_data(text: str, training: TrainingRecord) -> bool:
    """Whether a text is the name or the digest of the data shard of a training."""
    digest = as_digest(text)
    return text == training.data_name or (digest is not None and training.data.startswith(digest))


def is_ambiguous(found: Sequence[Meaning]) -> bool:
    """Whether a text has several meanings that differ in their ingredients."""
    return len({frozenset(entry.digest for entry in each.entries) for each in found}) > 1


def ambiguity(text: str, found: Sequence[Meaning]) -> str:
    """The problem with an ambiguous text."""
    if as_digest(text) is not None:
        return f"is the start of several digests: {_digests(found)}"
    if all(each.is_data for each in found):
        return f"is the name of several data shards: {_digests(found)}"
    if any(each.is_data for each in found):
        return f"is the name of an ingredient and of a data shard: {_digests(found)}"
    return f"is the name of several ingredients: {_digests(found)}"


def _digests(found: Sequence[Meaning]) -> str:
    return ", ".join(each.digest[: len(PREFIX) + SHORT_DIGEST] for each in found[:5])


def digests_of(text: str, ledger: Ledger, weight: Fraction | None) -> tuple[str, ...]:
    """The content digests of the ingredients that a text refers to.

    A data shard means every ingredient that was trained on it. Raises LedgerError for a text that
    matches none, for one that stands for several, and for several that would share a `weight`.
    """
    found = meanings(text, ledger.ingredients, ledger.ancestors)
    if not found:
        raise not_found(text, ledger)
    if is_ambiguous(found):
        raise LedgerError(ambiguity(text, found), path=text, advice="give the digest of one")
    entries = found[0].entries
    if len(entries) > 1 and weight is not None:
        what = f"is the training data of {len(entries)} ingredients, but a weight applies to one"
        raise LedgerError(what, path=text, advice=f"name one of {listed(entries)}")
    return tuple(entry.digest for entry in entries)


def not_found(text: str, ledger: Ledger) -> LedgerError:
    """The error for a text that is neither a file nor an ingredient in the ledger."""
    if donors := matching(text, ledger.donors, ledger.ancestors):
        what = f"is not an ingredient; only {ledger.taken_from(donors[0].digest)} is taken from it"
        return LedgerError(what, path=text, advice=ANOTHER_TAKE)
    if holders := containing((text,), ledger):
        what, advice = (
            f"is in the soup as part of {listed(holders)}",
            "swap replaces it as a whole" if {*holders} <= {*ledger.ingredients} else ANOTHER_TAKE,
        )
        return LedgerError(what, path=text, advice=advice)
    advice = f"it holds {listed(ledger.ingredients)}"
    return LedgerError("is neither a file nor an ingredient of the soup", path=text, advice=advice)


def every_entry(ledger: Ledger) -> list[IngredientEntry]:
    """The ingredients of a soup, and those of all known soups among them."""
    soups = (ledger, *ledger.ancestors.values())
    return list(chain.from_iterable(soup.sources for soup in soups))


def containing(texts: Sequence[str], ledger: Ledger) -> list[IngredientEntry]:
    """The ingredients of a soup that match one of the texts, or contain one that does."""
    every = every_entry(ledger)
    meant = (entry.digest for text in texts for entry in matching(text, every, ledger.ancestors))
    return holding(meant, ledger)


def holding(digests: Iterable[str], ledger: Ledger) -> list[IngredientEntry]:
    """The ingredients of a soup that have one of these contents, or contain one that does."""
    holders = with_descendants(digests, ledger.ancestors)
    return [entry for entry in ledger.sources if entry.digest in holders]


def nearest(text: str, ledger: Ledger) -> str | None:
    """The name in a ledger that is most similar to a text: of an ingredient or a data shard."""
    names = dict.fromkeys(name for _, name in _known(every_entry(ledger), ledger.ancestors))
    return next(iter(get_close_matches(text[:200], names, 1)), None)


def listed(entries: Sequence[IngredientEntry]) -> str:
    """The names of the first few entries."""
    return ", ".join(entry.name for entry in entries[:5])
