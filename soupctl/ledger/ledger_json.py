"""Encoding and parsing of ledgers as canonical JSON; parsing accepts nothing but that encoding.

Rule 1: sorted keys, no spaces, no floats; weights are texts such as `1/3`.
Rule 2: a ledger is untrusted input: `parse_ledger` checks all of it, and its own digest.
Rule 3: each state of the chain contains the digest of the one before.
Rule 4: a field that a later format added is left out if it has its default, so a ledger of an
earlier format is one of the present format without the later fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ..choices import OnMissing, Quantization
from ..errors import LedgerError, LimitError, UsageError
from ..format.dtypes import DType
from .json_values import (
    encode_runs,
    parse_digest,
    parse_runs,
    read_flag,
    read_globs,
    read_name,
    read_pairs,
    read_text,
    read_texts,
)
from .ledger import (
    Change,
    IngredientEntry,
    IntegerSource,
    Ledger,
    PipelineShare,
    SoupState,
    merged,
    merged_shares,
)
from .training_record import encode_training, parse_training
from .weights import read_weight, require_positive_total, weight_text

LEDGER_FORMAT = 2
"""Version of the ledger format. The second added the pipelines of an ingredient and the base
of deltas."""

ARITHMETIC = 1
"""Version of the arithmetic contract: the exact mean, rounded once, to nearest even."""

LONGEST = 1 << 24
"""Characters of the longest ledger: some 40,000 ingredients and their history."""

Digest = Callable[[str], str]
"""The digest of a text."""


def encode_ledger(ledger: Ledger, digest: Digest, version: int | None = None) -> str:
    """The ledger as canonical JSON, in the earliest format that can express it.

    `digest` computes the digest of a text.
    """
    document = {"format": version or least_format(ledger), **_body(ledger, digest)}
    if ledger.ancestors:
        document["ledgers"] = {
            root: sealed(_body(ancestor, digest), digest)
            for root, ancestor in ledger.ancestors.items()
        }
    document |= _given(disputed=list(ledger.disputed))
    return canonical(sealed(document, digest))


def require_readable(ledger: Ledger, text: str) -> None:
    """Raise LimitError for a ledger too long to be read or, if new, to be changed later.

    The first change about doubles it, since the history then names all ingredients once more.
    """
    most = LONGEST if ledger.chain else LONGEST // 2
    if len(text) > most:
        what = f"its ledger would have {len(text)} characters, and at most {most} are possible"
        advice = "average fewer ingredients, or use shorter paths"
        if ledger.chain:
            advice = "average its ingredients with avg, which begins a new history"
        raise LimitError(what, path="the soup", advice=advice)


def text_order(ledger: Ledger) -> str:
    """A sort key that distinguishes any two ledgers."""
    # states follow each other in the text as well, so it need not bind them by digests
    return canonical(_body(ledger, lambda text: ""))


def canonical(value: object) -> str:
    """The canonical JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sealed(body: dict[str, Any], digest: Digest) -> dict[str, Any]:
    """The body with the digest of its own canonical text."""
    return {**body, "digest": digest(canonical(body))}


def _body(ledger: Ledger, digest: Digest) -> dict[str, Any]:
    training = ledger.training
    return {
        **_given(
            training=None if training is None else encode_training(training),
            missing=None if ledger.on_missing is OnMissing.REFUSE else ledger.on_missing.value,
            takes=[list(pair) for pair in ledger.takes],
            donors=list(map(_encode_donor, ledger.donors)),
            pads=list(ledger.pads),
            configs=ledger.config_from,
            blocks=list(ledger.blocks),
            deltas=list(ledger.deltas),
        ),
        "arithmetic": ARITHMETIC,
        "base": ledger.base,
        "chain": _encode_chain(ledger.chain, digest),
        "changed": _encode_changes(ledger.changed),
        "dtype": {
            "asked": ledger.asked_dtype and ledger.asked_dtype.value,
            "result": encode_runs(ledger.dtypes),
            **_given(
                **{"for": [[glob, dtype.value] for glob, dtype in ledger.dtype_for]},
                quantize=ledger.quantize and ledger.quantize.value,
            ),
        },
        "exact": ledger.exact,
        "ingredients": list(map(_encode_entry, ledger.ingredients)),
        "nonfinite": ledger.allow_nonfinite,
        "operation": ledger.operation,
        "root": ledger.root,
        "selection": {"exclude": list(ledger.excludes), "key": list(ledger.keys)},
        "taken": ledger.integer_source
        and {
            "digest": ledger.integer_source.digest,
            "tensors": list(ledger.integer_source.tensors),
        },
    }


def _given(**fields: Any) -> dict[str, Any]:
    """The optional fields that differ from their defaults."""
    return {name: value for name, value in fields.items() if value not in (None, [])}


def _encode_entry(entry: IngredientEntry) -> dict[str, Any]:
    return {
        "digest": entry.digest,
        "dtypes": encode_runs(entry.dtypes),
        "hint": entry.hint,
        "name": entry.name,
        "weight": weight_text(entry.weight),
        **_given(
            renamed=entry.renamed,
            lacks=list(entry.lacks),
            blocks=list(map(weight_text, entry.blocks)),
            scales=entry.scales,
            schemes=list(entry.schemes),
            pipelines=[
                {
                    "digest": share.digest,
                    "hint": share.hint,
                    "name": share.name,
                    "weight": weight_text(share.weight),
                    **_given(blocks=list(map(weight_text, share.blocks))),
                }
                for share in entry.pipelines
            ],
        ),
    }


def _encode_donor(entry: IngredientEntry) -> dict[str, Any]:
    encoded = _encode_entry(entry)
    del encoded["weight"]
    return encoded


def _encode_changes(changes: Iterable[Change]) -> list[dict[str, Any]]:
    return [
        {
            "digest": each.digest,
            "name": each.name,
            "weight": weight_text(each.weight),
            **_given(blocks=list(map(weight_text, each.blocks))),
        }
        for each in changes
    ]


def _encode_chain(chain: Iterable[SoupState], digest: Digest) -> list[dict[str, Any]]:
    encoded: list[dict[str, Any]] = []
    for record in chain:
        encoded.append(
            {
                "changed": _encode_changes(record.changed),
                "exact": record.exact,
                "operation": record.operation,
                "previous": digest(canonical(encoded[-1])) if encoded else None,
                "root": record.root,
            }
        )
    return encoded


class NewerLedgerError(LedgerError):
    """A ledger of a later format, which proves nothing against the file."""


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
        # anything changed, added, repeated or reordered is encoded differently
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
        or each.takes
        or each.blocks
        or each.deltas
        or each.pads
        or each.config_from
        or each.dtype_for
        or each.quantize is not None
        or any(
            x.pipelines or x.lacks or x.schemes or x.renamed is not None for x in each.ingredients
        )
        for each in every
    )
    return 2 if is_second else 1


IGNORE = "avg --ignore-ledger treats the file as a plain checkpoint"


def _parse_body(body: dict[str, Any]) -> Ledger:
    ingredients = tuple(map(_parse_entry, body["ingredients"]))
    training = None
    if "training" in body:
        training = parse_training(body["training"], parse_digest)
        if ingredients or body["chain"] or body["base"] is not None:
            raise ValueError("it is a soup as well")
    deltas = tuple(map(parse_digest, read_texts(body.get("deltas", []))))
    if training is None and body["base"] is None:
        require_positive_total([each.weight for each in ingredients if each.digest not in deltas])
    if merged(ingredients) != ingredients:
        raise ValueError("its ingredients are not sorted or not unique")
    takes = tuple(
        (glob, parse_digest(digest)) for glob, digest in read_pairs(body.get("takes", []))
    )
    donors = tuple(_parse_entry({**each, "weight": None}) for each in body.get("donors", []))
    digests = [entry.digest for entry in donors]
    if sorted(set(digests) & {digest for _, digest in takes}) != digests:
        raise ValueError("its donors are not sorted, not unique, or give nothing")
    configs = body.get("configs")
    asked, taken, stored = body["dtype"]["asked"], body["taken"], body["dtype"].get("quantize")
    ledger = Ledger(
        operation=read_text(body["operation"]),
        root=parse_digest(body["root"]),
        ingredients=ingredients,
        dtypes=parse_runs(body["dtype"]["result"]),
        asked_dtype=None if asked is None else DType(asked),
        keys=read_globs(body["selection"]["key"]),
        excludes=read_globs(body["selection"]["exclude"]),
        allow_nonfinite=read_flag(body["nonfinite"]),
        dtype_for=tuple(
            (glob, DType(dtype)) for glob, dtype in read_pairs(body["dtype"].get("for", []))
        ),
        quantize=None if stored is None else Quantization(stored),
        takes=takes,
        donors=donors,
        pads=read_globs(body.get("pads", [])),
        config_from=None if configs is None else parse_digest(configs),
        blocks=read_globs(body.get("blocks", [])),
        on_missing=OnMissing(body.get("missing", OnMissing.REFUSE.value)),
        integer_source=None
        if taken is None
        else IntegerSource(parse_digest(taken["digest"]), read_texts(taken["tensors"])),
        exact=read_flag(body["exact"]),
        changed=_parse_changes(body["changed"]),
        chain=tuple(
            SoupState(
                operation=read_text(record["operation"]),
                changed=_parse_changes(record["changed"]),
                root=parse_digest(record["root"]),
                exact=read_flag(record["exact"]),
            )
            for record in body["chain"]
        ),
        training=training,
        base=None if body["base"] is None else parse_digest(body["base"]),
        deltas=deltas,
    )
    _require_blocks(ledger)
    _require_base(ledger)
    if configs is not None and configs not in {entry.digest for entry in ingredients}:
        raise ValueError("its source of configs is not among its ingredients")
    return ledger


def _require_blocks(ledger: Ledger) -> None:
    """Raise ValueError unless weights by block are one for each block, and not all equal."""
    shares = (share for entry in ledger.ingredients for share in entry.pipelines)
    changes = (change for state in ledger.states for change in state.changed)
    weights = [(each.blocks, each.weights) for each in ledger.ingredients]
    weights += [(each.blocks, each.weights) for each in shares]
    weights += [(each.blocks, each.weights) for each in changes]
    told = [blocks for blocks, _ in weights if blocks]
    right = all(len(blocks) == len(ledger.blocks) for blocks in told)
    right = right and all(blocks == each.blocks for blocks, each in weights)
    if not right or bool(told) != bool(ledger.blocks):
        raise ValueError("its weights by block do not fit its blocks")


def _require_base(ledger: Ledger) -> None:
    """Raise ValueError for a base that is not an ingredient, or a delta without two entries."""
    held = {entry.digest for entry in ledger.ingredients}
    if list(ledger.deltas) != sorted(held & {*ledger.deltas}):
        raise ValueError("its deltas are not sorted, not unique, or not among its ingredients")
    if ledger.base is None:
        return
    if ledger.deltas:
        raise ValueError("it has a base, and a mean that deltas are added to")
    if abs(ledger.base_weight) != 1:
        raise ValueError("its base is not among its ingredients, or has a weight of its own")
    if any(each.blocks for each in ledger.ingredients if each.digest == ledger.base):
        raise ValueError("its base has weights by block")
    weights = sorted(entry.weight for entry in ledger.ingredients)
    if ledger.is_delta and (weights != [-1, 1] or ledger.chain or ledger.blocks):
        raise ValueError("it is a delta, but not of one checkpoint and its base")


def _parse_disputed(digests: object) -> tuple[str, ...]:
    found = tuple(map(parse_digest, read_texts(digests)))
    if sorted(set(found)) != list(found):
        raise ValueError("its disputed digests are not sorted or not unique")
    return found


def _parse_entry(entry: Any) -> IngredientEntry:
    shares = tuple(
        PipelineShare(
            digest=parse_digest(share["digest"]),
            name=read_name(share["name"]),
            hint=None if share["hint"] is None else read_name(share["hint"]),
            **_parse_weights(share),
        )
        for share in entry.get("pipelines", ())
    )
    if merged_shares(shares) != shares:
        raise ValueError("its pipelines are not sorted or not unique")
    return IngredientEntry(
        digest=parse_digest(entry["digest"]),
        name=read_name(entry["name"]),
        hint=None if entry["hint"] is None else read_name(entry["hint"]),
        # a donor has none
        **({"weight": Fraction(0)} if entry["weight"] is None else _parse_weights(entry)),
        dtypes=parse_runs(entry["dtypes"]),
        renamed=read_name(entry["renamed"]) if "renamed" in entry else None,
        lacks=read_texts(entry.get("lacks", [])),
        schemes=read_texts(entry.get("schemes", [])),
        scales=parse_digest(entry["scales"]) if "scales" in entry else None,
        pipelines=shares,
    )


def _parse_changes(changes: Any) -> tuple[Change, ...]:
    return tuple(
        Change(parse_digest(each["digest"]), read_name(each["name"]), **_parse_weights(each))
        for each in changes
    )


def _parse_weights(value: Any) -> dict[str, Any]:
    """The weight of a JSON object, and its weights by block; only with these may one be zero."""
    blocks = tuple(map(_weight_or_zero, read_texts(value.get("blocks", []))))
    read = _weight_or_zero if blocks else read_weight
    return {"weight": read(read_text(value["weight"])), "blocks": blocks}


def _weight_or_zero(text: str) -> Fraction:
    return Fraction(0) if text == "0" else read_weight(text)
