"""The members of a stack of banks, and the text of its `stack_config.json`.

Rule 1: the text may come from an attacker: like a bank's config it is checked by hand, and anything
wrong is an InputError of one line.
Rule 2: a member's name is the name of its folder in the stack, so it is a single part of a path.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..errors import InputError
from ..format.strict_json import decode, parse_object
from ..ledger.weights import read_weight, weight_text

STACK_FORMAT = 1
"""Version of the file's own layout."""
STACK_TYPE = "SOUPCTL_DMP_STACK"
MOST_MEMBERS = 1000

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=-]{0,99}")
DIGEST = re.compile(r"blake3:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StackEntry:
    """One bank of a stack on disk."""

    name: str
    weight: Fraction
    digest: str
    """Content digest of the bank's tensors."""


def is_member_name(name: str) -> bool:
    """Whether a bank in a stack may have this name."""
    return NAME.fullmatch(name) is not None


def encode_stack(entries: Sequence[StackEntry]) -> bytes:
    """The bytes of the file; members are sorted by name, so equal stacks have equal files."""
    members = [
        {"digest": each.digest, "name": each.name, "weight": weight_text(each.weight)}
        for each in sorted(entries, key=lambda entry: entry.name)
    ]
    fields = {"format": STACK_FORMAT, "members": members, "stack_type": STACK_TYPE}
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode("utf-8")


def parse_stack(text: bytes, path: str) -> tuple[StackEntry, ...]:
    """The members in `text`, sorted by name; InputError naming `path` if it is not valid."""
    try:
        fields = parse_object(decode(text))
        if fields.get("stack_type") != STACK_TYPE:
            what = reprlib.repr(fields.get("stack_type"))
            raise ValueError(f"its stack_type is {what}")
        if type(fields.get("format")) is not int or fields["format"] != STACK_FORMAT:
            raise ValueError(
                f"its format is {reprlib.repr(fields.get('format'))}, not {STACK_FORMAT}"
            )
        if fields.keys() != {"format", "members", "stack_type"}:
            raise ValueError("its fields must be format, members and stack_type")
        members = fields["members"]
        if not isinstance(members, list) or not 0 < len(members) <= MOST_MEMBERS:
            raise ValueError(f"its members must be a list of 1 to {MOST_MEMBERS}")
        entries = tuple(_entry(member) for member in members)
        names = [entry.name for entry in entries]
        if names != sorted(set(names)):
            raise ValueError("its members must be sorted by name, without duplicates")
    except ValueError as error:
        raise InputError(f"is not a valid stack of banks: {error}", path=path) from None
    return entries


def _entry(member: Any) -> StackEntry:
    """A member from its JSON; ValueError if it is not valid."""
    if not isinstance(member, dict) or member.keys() != {"digest", "name", "weight"}:
        raise ValueError("the fields of a member must be digest, name and weight")
    name, digest, weight = member["name"], member["digest"], member["weight"]
    if not isinstance(name, str) or not is_member_name(name):
        raise ValueError(f"{reprlib.repr(name)} cannot be the name of a member")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError(f"{reprlib.repr(digest)} is not a digest")
    # a value that is not text is refused like an empty text
    return StackEntry(name, read_weight(weight if isinstance(weight, str) else ""), digest)
