"""The record in a part's file: what it is a part of, what was read, and what was written.

Rule 1: a record has a digest of its own, so that a damaged one is noticed.
Rule 2: a draft takes at least as many bytes as the final record, so it sizes the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ... import __version__
from ...checkpoints.digest import Row, root_of, text_digest
from ...errors import InputError, SoupError
from ...format.strict_json import parse_object
from ...frozen import frozen
from ...storage.elsewhere import hint_at
from ...storage.reader import FileIdentity
from ..average import Request
from ..job import Job
from ..kept_sum.reader import Source, tensors_read
from ..order import Outcome, PassRows
from ..plan import Plan
from ..step import Rule
from .divide import PartOfPlan
from .request_json import decode_request

PART_KEY = "soupctl.part"
DIGEST_KEY = "soupctl.part.digest"
NO_DIGEST = "0" * 64

Stamps = tuple[tuple[str, int, int], ...]
"""The path of each input file, its bytes, and when it was last written to, in nanoseconds.

Of a file on the hub, its address with the commit, and zeros.
"""


@frozen
class PartRecord:
    """What one part is a part of, and the digests of all that it read and wrote."""

    part: PartOfPlan
    plan: str
    """Digest of the plan of all parts."""
    request: Mapping[str, Any]
    """The request as JSON."""
    inputs: Stamps
    components: tuple[PassRows, ...]
    version: str = __version__
    """The version of soupctl that has made the part."""


def plan_digest(request: Mapping[str, Any], job: Job) -> str:
    """The digest of all that decides the bytes of the soup, as headers and options tell it."""
    components = [
        [
            component.draft_text,
            component.metadata,
            [_entry(*each) for each in component.plan.written],
        ]
        for component in job.components
    ]
    return text_digest(_text([request, components]))


def stamps_of(job: Job) -> Stamps:
    """The files that a job reads, as they were when they were opened."""
    found = {}
    for component in job.used.components:
        for checkpoint in component.opened:
            for file in checkpoint.files:
                address = hint_at(file.path)
                if address is not None:
                    # it names the commit, whose files never change
                    found[address] = (0, 0)
                    continue
                assert isinstance(file.identity, FileIdentity)
                found[str(file.path)] = (file.identity.size, file.identity.mtime_ns)
    return tuple((path, *stamp) for path, stamp in sorted(found.items()))


def drafted_rows(read: Sequence[Source], plan: Plan) -> PassRows:
    """The rows that a pass over these sources writes at most, with zeros for digests."""
    sources: list[list[Row]] = [[] for _ in read]
    for step in plan.steps:
        for place in step.sources:
            sources[place] += (
                (tensor.name, tensor.dtype.value, tensor.shape, NO_DIGEST)
                for tensor in tensors_read(read[place], step.name)
            )
    written = tuple((*_entry(*each), NO_DIGEST) for each in plan.written)
    firsts = tuple(step.name for step in plan.kept if step.rule is Rule.FIRST)
    return PassRows(tuple(map(tuple, sources)), written, firsts)


def have_same_tensors(one: PassRows, other: PassRows) -> bool:
    """Whether the rows of two passes differ in digests and repetitions alone."""
    return _bare(one) == _bare(other)


def _bare(rows: PassRows) -> tuple[object, ...]:
    """The rows without their digests, each once."""
    return (
        tuple(sorted({row[:3] for row in each}) for each in rows.sources),
        sorted(row[:3] for row in rows.soup),
    )


def outcome_of(parts: Sequence[PassRows]) -> Outcome:
    """The outcome of a pass, from the rows of all parts of it."""
    return Outcome(
        tuple(
            root_of(chain.from_iterable(each))
            for each in zip(*(rows.sources for rows in parts), strict=True)
        ),
        root_of(chain.from_iterable(rows.soup for rows in parts)),
        tuple(chain.from_iterable(rows.taken for rows in parts)),
    )


def record_metadata(record: PartRecord) -> dict[str, str]:
    """The record as metadata of a safetensors file."""
    text = _text(
        {
            "version": record.version,
            "part": [record.part.number, record.part.count],
            "plan": record.plan,
            "request": record.request,
            "inputs": record.inputs,
            "components": [
                {"sources": each.sources, "soup": each.soup, "taken": each.taken}
                for each in record.components
            ],
        }
    )
    return {PART_KEY: text, DIGEST_KEY: text_digest(text)}


def read_record(metadata: Mapping[str, str], path: Path) -> PartRecord:
    """The record in the metadata of a file; InputError if there is none, or it is damaged."""
    text = metadata.get(PART_KEY)
    if text is None:
        raise InputError("is not a part of a soup", path=path, advice="move it away")
    if metadata.get(DIGEST_KEY) != text_digest(text):
        raise damaged(path)
    try:
        found = parse_object(text)
        number, count = found["part"]
        request = found["request"]
        if not isinstance(request, dict):
            raise TypeError("the request is not an object")
        return PartRecord(
            PartOfPlan(_number(number), _number(count)),
            _text_in(found["plan"]),
            request,
            tuple((_text_in(p), _number(size), _number(time)) for p, size, time in found["inputs"]),
            tuple(map(_pass_rows, found["components"])),
            _text_in(found["version"]),
        )
    except (ValueError, TypeError, KeyError, SoupError, RecursionError):
        raise damaged(path) from None


def request_of(record: PartRecord, path: Path) -> Request:
    """The request that a part was made of; InputError if that is damaged."""
    try:
        return decode_request(record.request)
    except (ValueError, TypeError, KeyError, SoupError):
        raise damaged(path) from None


def damaged(path: Path, tensor: str | None = None) -> InputError:
    """The error for a part that is not as it was made."""
    what = "was changed after it was made"
    return InputError(what, path=path, tensor=tensor, advice="remove it, and make this part again")


def _pass_rows(found: Mapping[str, Any]) -> PassRows:
    return PassRows(
        tuple(_rows(each) for each in found["sources"]),
        _rows(found["soup"]),
        tuple(map(_text_in, found["taken"])),
    )


def _rows(found: Sequence[Any]) -> tuple[Row, ...]:
    return tuple(
        (_text_in(name), _text_in(dtype), tuple(map(_number, shape)), _text_in(digest))
        for name, dtype, shape, digest in found
    )


def _text_in(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("is not a text")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError("is not a whole number")
    return value


def _entry(name: str, dtype: Any, shape: tuple[int, ...]) -> tuple[str, str, tuple[int, ...]]:
    return name, dtype.value, shape


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
