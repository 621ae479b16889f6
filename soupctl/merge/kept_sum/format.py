"""The format of a kept sum: the tensors that hold it, and its record.

Rule 1: per tensor a sum is scale * sum(w_j * x_j), w_j as requested, exactly, in the narrowest form
that holds it: one plane of F32, or as many of F64 as it takes (`SumForm`). To the sum of models
with total weight W, deltas d_j of scale s_j add scale * W * s_j * d_j.
Rule 2: the form follows from the values alone, so equal sums have equal files.
Rule 3: the record of a sum is untrusted text like a ledger, and is sealed and checked like one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm, prod
from typing import Any

from ...format.dtypes import DType, index_dtype
from ...format.header import Tensor
from ...frozen import frozen
from ...ledger.block_weights import WeightByBlock, summed
from ...ledger.json_values import encode_runs, parse_digest, parse_runs
from ...ledger.ledger import Runs
from ...ledger.sealed import Digest, RecordFormat, canonical, read_record, sealed
from ...ledger.weights import LARGEST, read_weight, weight_text
from ...pattern import pattern

REMOVE = "without the sum, the soup is recomputed from its ingredients"
NO_SUM = "with --no-keep-sum, the soup is recomputed when it changes"
SUM_FORMAT = 2
"""The format of a sum of which an adapter has fractions for scales; of any other it is 1."""
RECORD = RecordFormat("a sum", SUM_FORMAT, REMOVE, f"use a newer soupctl; {REMOVE}")
MOST_PLANES = 8
COPIED = "c:"
SUFFIX = ".sum"
"""The end of the name of a sum."""
PLANE = pattern(r"([0-7])([iv]?):")

TensorSpec = tuple[str, DType, tuple[int, ...]]
"""Name, dtype and shape of a tensor."""


@frozen
class SumForm:
    """How the sum of one tensor is kept."""

    first: DType
    """Dtype of the first plane: F32 if it holds the whole sum, else F64."""
    rest: tuple[int, ...] = ()
    """The number of nonzero elements in each further plane."""


@frozen
class Facts:
    """The facts that a sum records beside its ledger."""

    scale: Fraction
    """The sum is that of the ingredients times their requested weights, times this."""
    root: str
    """Content digest of the sum's own tensors."""
    dtypes: tuple[Runs, ...]
    """For each ingredient in the ledger's order: its dtypes of the soup's tensors, by name.

    Where a delta or an adapter does not decide the soup's dtype, it is `UNDECIDED`.
    """
    denominators: tuple[int, ...] = ()
    """For each ingredient in the ledger's order: the common denominator of its updates' scales.

    Empty if it is 1 for all.
    """


UNDECIDED = DType.BOOL
"""Stands for the dtype of an averaged tensor in a delta that lacks it, and in an adapter."""


@frozen
class SumUpdate:
    """The factors that turn a sum into that of other ingredients."""

    factor: int
    """The factor of the old sum."""
    weights: tuple[WeightByBlock, ...]
    """The factor of each ingredient that changes: whole numbers."""
    scale: Fraction
    """The scale of the new sum."""

    def shrink(self, weights: Iterable[WeightByBlock]) -> int:
        """The divisor of the new sum: its weights allow a smaller scale."""
        return gcd(*(int(x * self.scale) for each in weights for x in (each.usual, *each.blocks)))


def sum_name(soup: str, roots: Mapping[str, str], digest: Digest) -> str:
    """The name of the sum of a soup called `soup`, by the content digests of its components."""
    (root,) = roots.values() if len(roots) == 1 else [digest(canonical(sorted(roots.items())))]
    return f"{soup}.{root.partition(':')[2][:12]}{SUFFIX}"


def is_sparse(count: int, present: int) -> bool:
    """Whether a plane with `present` of `count` elements is smaller as places and values."""
    each = index_dtype(count).bits + DType.F64.bits
    return present * each < count * DType.F64.bits


def plane_entries(name: str, shape: tuple[int, ...], form: SumForm) -> list[TensorSpec]:
    """The tensors that hold the sum of one tensor, in the order of its planes."""
    count = prod(shape)
    entries: list[TensorSpec] = [(f"0:{name}", form.first, shape)]
    for plane, present in enumerate(form.rest, 1):
        if is_sparse(count, present):
            entries.append((f"{plane}i:{name}", index_dtype(count), (present,)))
            entries.append((f"{plane}v:{name}", DType.F64, (present,)))
        else:
            entries.append((f"{plane}:{name}", DType.F64, shape))
    return entries


def copied_entry(name: str, dtype: DType, shape: tuple[int, ...]) -> TensorSpec:
    """The tensor that holds a tensor that is not averaged."""
    return COPIED + name, dtype, shape


def planes_by_tensor(tensors: Iterable[Tensor]) -> dict[str, list[Tensor]]:
    """The planes of a sum in order, by the name of the tensor that they are the sum of.

    Raises ValueError for tensors that no sum has.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        match = PLANE.match(tensor.name)
        if match is None and not tensor.name.startswith(COPIED):
            raise ValueError(f"{tensor.name!r} is not a plane of a sum")
        mark, _, name = tensor.name.partition(":")
        found.setdefault(name, {})[mark] = tensor
    return {name: _in_order(name, planes) for name, planes in found.items()}


def _in_order(name: str, planes: Mapping[str, Tensor]) -> list[Tensor]:
    """The planes of one tensor, checked to be a form that soupctl writes."""
    if "c" in planes and len(planes) == 1:
        return [planes["c"]]
    first = planes.get("0")
    if first is None or first.dtype not in (DType.F32, DType.F64):
        raise ValueError(f"{name!r} has no first plane")
    found, plane = [first], 1
    while len(found) < len(planes):
        dense = planes.get(str(plane))
        places, values = planes.get(f"{plane}i"), planes.get(f"{plane}v")
        if dense is not None and dense.dtype is DType.F64 and dense.shape == first.shape:
            found.append(dense)
        elif places is not None and values is not None and places.shape == values.shape:
            right = (index_dtype(first.count), DType.F64)
            if (places.dtype, values.dtype) != right or len(places.shape) != 1:
                raise ValueError(f"{name!r} has a plane of another form")
            found += [places, values]
        else:
            raise ValueError(f"{name!r} lacks a plane")
        plane += 1
    return found


def smallest_scale(weights: Iterable[WeightByBlock], *, normalize: bool = True) -> Fraction:
    """The smallest factor that makes all weights whole, in every block.

    Of a sum that is not divided by its total, it makes the divisor whole, too, which is 1.
    """
    every = [weight for each in weights for weight in (each.usual, *each.blocks) if weight]
    if not normalize:
        every.append(Fraction(1))
    denominator = lcm(*(weight.denominator for weight in every))
    return Fraction(denominator, gcd(*(int(weight * denominator) for weight in every)))


def sum_update(
    scale: Fraction, changes: Sequence[WeightByBlock], after: Iterable[WeightByBlock]
) -> SumUpdate | None:
    """The update of a sum of that scale for changed weights; None if it would not be exact.

    `after` are the requested weights of all ingredients afterwards.
    """
    changed = [weight for each in changes for weight in (each.usual, *each.blocks)]
    factor = lcm(*((scale * change).denominator for change in changed))
    scale *= factor
    kept = list(after)
    left = [weight for each in (*kept, summed(kept)) for weight in (each.usual, *each.blocks)]
    # what remains is whole, times the factor, and so is its total
    scaled = [weight * scale for weight in (*left, *changed)]
    largest = max(map(abs, scaled), default=0)
    if any(weight.denominator != 1 for weight in scaled) or max(factor, largest) > LARGEST:
        return None
    return SumUpdate(factor, tuple(each * scale for each in changes), scale)


def expand_runs(runs: Runs) -> Iterable[DType]:
    """The dtypes in run-length encoding, one by one."""
    # a range may be too long for len()
    return (dtype for dtype, count in runs for _ in range(count))


def encode_facts(facts: Facts, ledger: str, digest: Digest) -> str:
    """The facts as canonical JSON, sealed with their own digest and bound to the ledger's text."""
    body = {
        **({"denominators": [*facts.denominators]} if facts.denominators else {}),
        "dtypes": [encode_runs(runs) for runs in facts.dtypes],
        "format": SUM_FORMAT if facts.denominators else 1,
        "ledger": digest(ledger),
        "root": facts.root,
        "scale": weight_text(facts.scale),
    }
    return canonical(sealed(body, digest))


def parse_facts(text: str, ledger: str, path: str, digest: Digest) -> Facts:
    """The facts that `text` holds, checked in full; LedgerError for `path` if they are not sound.

    Facts that were written with another ledger than the text `ledger` are not sound.
    """

    def parse(body: dict[str, Any]) -> Facts:
        return Facts(
            scale=read_weight(body["scale"]),
            root=parse_digest(body["root"]),
            dtypes=tuple(parse_runs(runs) for runs in body["dtypes"]),
            denominators=tuple(map(_parse_denominator, body.get("denominators", ()))),
        )

    def is_sound(facts: Facts) -> bool:
        return facts.scale > 0 and encode_facts(facts, ledger, digest) == text

    return read_record(text, path, RECORD, parse, is_sound)


def _parse_denominator(value: object) -> int:
    if type(value) is not int or not 0 < value <= LARGEST:
        raise ValueError(f"{value!r} is not a denominator")
    return value
