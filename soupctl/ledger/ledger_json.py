"""Encoding and parsing of ledgers as canonical JSON; parsing accepts nothing but that encoding.

Rule 1: sorted keys, no spaces, no floats; weights are texts such as `1/3`.
Rule 2: a ledger is untrusted input: `parse_ledger` checks all of it, and its own digest.
Rule 3: each state of the chain contains the digest of the one before.
Rule 4: a field that a later format added is left out if it has its default, so a ledger of an
earlier format is one of the present format without the later fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..choices import OnMissing, Quantization
from ..errors import LedgerError, LimitError, UsageError
from ..format.dtypes import DType
from .consistent import require_consistent
from .entries import as_state
from .entries_json import (
    chain_text,
    changes_text,
    donor_text,
    entry_text,
    parse_chain,
    parse_changes,
    parse_donor,
    parse_entry,
)
from .json_values import (
    parse_digest,
    parse_runs,
    read_flag,
    read_globs,
    read_pairs,
    read_text,
    read_texts,
    runs_text,
)
from .ledger import IntegerSource, Ledger
from .method_json import encode_method, parse_method
from .sealed import (
    LONGEST,
    Digest,
    NewerLedgerError,
    canonical,
    list_text,
    object_text,
    sealed_text,
)
from .training_record import encode_training, parse_training

LEDGER_FORMAT = 2
"""Version of the ledger format. The second added the pipelines of an ingredient and the base
of deltas."""

ARITHMETIC = 1
"""Version of the arithmetic contract: the exact mean, rounded once, to nearest even."""

LONGEST_OPERATION = 100
"""Characters that a ledger gains at most where its operation is another."""

IGNORE = "avg --ignore-ledger treats the file as a plain checkpoint"


def encode_ledger(
    ledger: Ledger, digest: Digest, version: int | None = None, ancestors: str | None = None
) -> str:
    """The ledger as canonical JSON, in the earliest format that can express it.

    `digest` computes the digest of a text. `ancestors` is the `ancestors_text` of the ledger, where
    that is known.
    """
    members = {"format": str(version or least_format(ledger)), **_members(ledger, digest)}
    if ledger.ancestors:
        members["ledgers"] = ancestors or ancestors_text(ledger.ancestors, digest)
    if ledger.disputed:
        members["disputed"] = canonical(ledger.disputed)
    return sealed_text(members, digest)


def ancestors_text(ancestors: Mapping[str, Ledger], digest: Digest) -> str:
    """The ancestors of a ledger as canonical JSON."""
    texts = {root: sealed_text(_members(each, digest), digest) for root, each in ancestors.items()}
    return object_text(texts)


def require_readable(ledger: Ledger, text: str) -> None:
    """Raise LimitError for a ledger too long to be read or, if new, to be changed later.

    The first change records the state before it, which names all ingredients once more; a removal
    adds nothing else of any length.
    """
    if len(text) <= LONGEST // 2:
        # that record is a part of the text, in fewer words
        return
    most = LONGEST
    if not ledger.chain:
        most -= len(chain_text([as_state(ledger)], str)) + LONGEST_OPERATION
    if len(text) > most:
        what = f"its ledger would have {len(text)} characters, but at most {most} are allowed"
        advice = "average fewer ingredients, or use shorter paths"
        if ledger.chain:
            advice = "average its ingredients with avg, which begins a new history"
        raise LimitError(what, path="the soup", advice=advice)


def text_order(ledger: Ledger) -> str:
    """A sort key that distinguishes any two ledgers."""
    # the order of the states in the text makes digests between them unnecessary
    return object_text(_members(ledger, lambda text: ""))


def _members(ledger: Ledger, digest: Digest) -> dict[str, str]:
    """The canonical texts of the members of a ledger, but for its ancestors."""
    taken = ledger.integer_source
    return {
        **_optional_members(ledger),
        "arithmetic": str(ARITHMETIC),
        "base": canonical(ledger.base),
        "chain": chain_text(ledger.chain, digest),
        "changed": changes_text(ledger.changed),
        "dtype": _dtype_text(ledger),
        "exact": canonical(ledger.exact),
        "ingredients": list_text(map(entry_text, ledger.ingredients)),
        "nonfinite": canonical(ledger.allow_nonfinite),
        "operation": canonical(ledger.operation),
        "root": canonical(ledger.root),
        "selection": canonical({"exclude": ledger.excludes, "key": ledger.keys}),
        "taken": canonical(taken and {"digest": taken.digest, "tensors": taken.tensors}),
    }


def _optional_members(ledger: Ledger) -> dict[str, str]:
    """The members of a ledger's JSON that differ from their defaults."""
    training = ledger.training
    found = {
        "training": None if training is None else canonical(encode_training(training)),
        "missing": None
        if ledger.on_missing is OnMissing.REFUSE
        else canonical(ledger.on_missing.value),
        "takes": ledger.takes and canonical(ledger.takes),
        "donors": ledger.donors and list_text(map(donor_text, ledger.donors)),
        "pads": ledger.pads and canonical(ledger.pads),
        "configs": None if ledger.config_from is None else canonical(ledger.config_from),
        "blocks": ledger.blocks and canonical(ledger.blocks),
        "deltas": ledger.deltas and canonical(ledger.deltas),
        "method": None if ledger.method is None else canonical(encode_method(ledger.method)),
        "normalize": None if ledger.normalize else canonical(False),
    }
    return {name: text for name, text in found.items() if text}


def _dtype_text(ledger: Ledger) -> str:
    """The dtypes that were requested, and those of the soup."""
    asked = ledger.asked_dtype and ledger.asked_dtype.value
    members = {"asked": canonical(asked), "result": runs_text(ledger.dtypes)}
    if ledger.dtype_for:
        members["for"] = canonical([(glob, dtype.value) for glob, dtype in ledger.dtype_for])
    if ledger.quantize is not None:
        members["quantize"] = canonical(ledger.quantize.value)
    return object_text(members)


def parse_ledger(text: str, path: str, digest: Digest) -> Ledger:
    """The ledger in `text`, checked in full; LedgerError about `path` if it is malformed."""
    if len(text) > LONGEST:
        what = f"its ledger has {len(text)} characters, and at most {LONGEST} are read"
        raise LedgerError(what, path=path, advice=IGNORE)
    try:
        document = json.loads(text)
        version = document["format"]
        if type(version) is not int:
            raise TypeError("a version is a whole number")
    except (ValueError, RecursionError, TypeError, KeyError):
        raise LedgerError("its ledger is not valid JSON", path=path, advice=IGNORE) from None
    if not 1 <= version <= LEDGER_FORMAT:
        reads = f"this soupctl reads formats 1 to {LEDGER_FORMAT}"
        kind = LedgerError if version < 1 else NewerLedgerError
        raise kind(
            f"its ledger has format {str(version)[:20]}, {reads}",
            path=path,
            advice="use a newer soupctl, or avg --ignore-ledger to take the file as it is",
        )
    try:
        ancestors = {root: _parse_body(body) for root, body in document.get("ledgers", {}).items()}
        disputed = _parse_disputed(document.get("disputed", []))
        ledger = replace(_parse_body(document), ancestors=ancestors, disputed=disputed)
        sound = all(root == ancestor.root for root, ancestor in ancestors.items())
        # any change, addition, repetition or reordering gives another encoding
        sound = sound and encode_ledger(ledger, digest, version) == text
        sound = sound and version >= least_format(ledger)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError):
        raise LedgerError("its ledger is malformed", path=path, advice=IGNORE) from None
    if not sound:
        raise LedgerError(
            "its ledger was altered: it does not match its own digest", path=path, advice=IGNORE
        )
    return ledger


def least_format(ledger: Ledger) -> int:
    """The earliest format that can express a ledger."""
    every = (ledger, *ledger.ancestors.values())
    is_second = ledger.disputed or any(
        each.on_missing is not OnMissing.REFUSE
        or each.base is not None
        or each.method is not None
        or each.takes
        or each.blocks
        or each.deltas
        or each.pads
        or each.config_from
        or each.dtype_for
        or each.quantize is not None
        or not each.normalize
        or any(
            x.pipelines or x.lacks or x.schemes or x.renamed is not None for x in each.ingredients
        )
        for each in every
    )
    return 2 if is_second else 1


def _parse_body(body: dict[str, Any]) -> Ledger:
    configs, base, taken = body.get("configs"), body["base"], body["taken"]
    asked, stored = body["dtype"]["asked"], body["dtype"].get("quantize")
    ledger = Ledger(
        operation=read_text(body["operation"]),
        root=parse_digest(body["root"]),
        ingredients=tuple(map(parse_entry, body["ingredients"])),
        dtypes=parse_runs(body["dtype"]["result"]),
        asked_dtype=None if asked is None else DType(asked),
        keys=read_globs(body["selection"]["key"]),
        excludes=read_globs(body["selection"]["exclude"]),
        allow_nonfinite=read_flag(body["nonfinite"]),
        dtype_for=tuple(
            (glob, DType(dtype)) for glob, dtype in read_pairs(body["dtype"].get("for", []))
        ),
        quantize=None if stored is None else Quantization(stored),
        takes=tuple(
            (glob, parse_digest(digest)) for glob, digest in read_pairs(body.get("takes", []))
        ),
        donors=tuple(map(parse_donor, body.get("donors", []))),
        pads=read_globs(body.get("pads", [])),
        config_from=None if configs is None else parse_digest(configs),
        blocks=read_globs(body.get("blocks", [])),
        on_missing=OnMissing(body.get("missing", OnMissing.REFUSE.value)),
        integer_source=None
        if taken is None
        else IntegerSource(parse_digest(taken["digest"]), read_texts(taken["tensors"])),
        exact=read_flag(body["exact"]),
        changed=parse_changes(body["changed"]),
        chain=parse_chain(body["chain"]),
        training=parse_training(body["training"], parse_digest) if "training" in body else None,
        base=None if base is None else parse_digest(base),
        deltas=_parse_digests(body.get("deltas", [])),
        method=parse_method(body["method"], parse_digest) if "method" in body else None,
        normalize=read_flag(body.get("normalize", True)),
    )
    require_consistent(ledger)
    return ledger


def _parse_disputed(values: object) -> tuple[str, ...]:
    found = _parse_digests(values)
    if sorted(set(found)) != list(found):
        raise ValueError("its disputed digests are not sorted or not unique")
    return found


def _parse_digests(values: object) -> tuple[str, ...]:
    return tuple(map(parse_digest, read_texts(values)))
