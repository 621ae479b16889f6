"""Records as canonical JSON texts that are sealed with their own digest.

Rule 1: sorted keys, no spaces, no floats, so that equal values have equal texts.
Rule 2: a record is untrusted text: it counts only if it is what its own values are encoded as.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring as quoted
from typing import Any, TypeVar

from ..errors import LedgerError
from ..frozen import frozen

Value = TypeVar("Value")

LONGEST = 1 << 24
"""Characters of the longest ledger: some 40,000 ingredients and their history."""

Digest = Callable[[str], str]
"""The digest of a text."""

# one for all texts, since json.dumps would make a new one for each
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class NewerLedgerError(LedgerError):
    """A ledger of a later format, which proves nothing against the file."""


def canonical(value: object) -> str:
    """The canonical JSON text of a value."""
    return ENCODER.encode(value)


def list_text(items: Iterable[str]) -> str:
    """The canonical text of a list, from those of its items."""
    return f"[{','.join(items)}]"


def object_text(members: Mapping[str, str]) -> str:
    """The canonical text of an object, from those of its members by name."""
    return f"{{{','.join(f'{quoted(name)}:{members[name]}' for name in sorted(members))}}}"


def sealed_text(members: Mapping[str, str], digest: Digest) -> str:
    """The canonical text of an object with the digest of its own text, likewise."""
    return object_text({**members, "digest": quoted(digest(object_text(members)))})


def sealed(body: dict[str, Any], digest: Digest) -> dict[str, Any]:
    """The body with the digest of its own canonical text."""
    return {**body, "digest": digest(canonical(body))}


@frozen
class RecordFormat:
    """The format of a record beside the ledger."""

    subject: str
    """The kind of record, as messages call it."""
    version: int
    """The latest version that can be read."""
    advice: str
    """What to do about a record that is not sound."""
    advice_if_newer: str


def read_record(
    text: str,
    path: str,
    form: RecordFormat,
    parse: Callable[[dict[str, Any]], Value],
    is_sound: Callable[[Value], bool],
) -> Value:
    """The value that `parse` reads in a sealed record; LedgerError for `path` if it is not sound.

    `is_sound` tells whether the text is what the value is encoded as.
    """
    try:
        if len(text) > LONGEST:
            raise ValueError("more than the longest ledger would need")
        body = json.loads(text)
        if type(body["format"]) is int and body["format"] > form.version:
            version = str(body["format"])[:20]
            what = f"its record of {form.subject} has format {version}, a later one"
            raise NewerLedgerError(what, path=path, advice=form.advice_if_newer)
        value = parse(body)
        sound = is_sound(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        what = f"its record of {form.subject} is malformed"
        raise LedgerError(what, path=path, advice=form.advice) from None
    if not sound:
        what = (
            f"its record of {form.subject} was altered: it does not match its digest or its ledger"
        )
        raise LedgerError(what, path=path, advice=form.advice)
    return value
