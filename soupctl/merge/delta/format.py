"""The format of a delta: the tensors that hold it, and its record.

Rule 1: per tensor a delta is FINE - BASE, exactly, in one plane of any float dtype or in two that
add up: the error of a rounded difference of two floats is itself a float of their common dtype, and
where the difference is beyond the range of F64, the planes are FINE and -BASE.
Rule 2: a tensor that is the same in both is left out; one that cannot be subtracted is kept whole.
Rule 3: the positions of -0.0 in FINE are stored separately, since a sum cannot yield -0.0.
Rule 4: the record of a delta is untrusted text like a ledger, and is sealed and checked like one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from ...format.dtypes import DType, Kind, index_dtype
from ...format.header import Tensor
from ...frozen import frozen
from ...ledger.sealed import Digest, RecordFormat, canonical, read_record, sealed
from ...pattern import pattern

COMPONENT_FILE = "delta.safetensors"
"""The name of a component's delta in its folder, which no library mistakes for weights."""
MAKE = "make it again with soupctl delta FINE BASE"
DELTA_FORMAT = 1
RECORD = RecordFormat("a delta", DELTA_FORMAT, MAKE, "use a newer soupctl")
PLANE = pattern(r"([01][iv]?|[cs]):")

TensorSpec = tuple[str, DType, tuple[int, ...]]
"""Name, dtype and shape of a tensor."""


@frozen
class PlaneForm:
    """The form of one plane of a delta."""

    dtype: DType
    present: int
    """The number of its nonzero elements."""

    def is_sparse(self, count: int) -> bool:
        """Whether a plane of `count` elements is smaller as places and values."""
        return self.present * (index_dtype(count).bits + self.dtype.bits) < count * self.dtype.bits

    def size(self, count: int) -> int:
        """The bits that a plane of `count` elements takes."""
        if self.is_sparse(count):
            return self.present * (index_dtype(count).bits + self.dtype.bits)
        return count * self.dtype.bits


@frozen
class DeltaForm:
    """The form of the difference of one tensor."""

    planes: tuple[PlaneForm, ...]
    """One or two planes; empty for a tensor that is stored whole."""
    negative_zeros: int = 0
    """The number of elements that are -0.0 in FINE."""
    is_apart: bool = False
    """Whether the planes are FINE and -BASE, whose difference is beyond the range of F64."""

    def size(self, count: int) -> int:
        """The bits that all planes of `count` elements take."""
        return sum(plane.size(count) for plane in self.planes)


WHOLE = DeltaForm(())


def apart(count: int, negative_zeros: int) -> DeltaForm:
    """The form of `count` F64 numbers whose differences exceed the range of F64."""
    return DeltaForm((PlaneForm(DType.F64, count),) * 2, negative_zeros, True)


@frozen
class DeltaPlanes:
    """The stored tensors that hold the difference of one tensor."""

    dense: tuple[Tensor, ...] = ()
    sparse: tuple[tuple[Tensor, Tensor], ...] = ()
    """Places and values of planes that are mostly zero."""
    negative_zeros: Tensor | None = None
    """The places where FINE holds -0.0."""
    whole: Tensor | None = None
    """FINE's own tensor, if it cannot be subtracted."""

    @property
    def every(self) -> tuple[Tensor, ...]:
        """All of them."""
        pairs = (tensor for pair in self.sparse for tensor in pair)
        found = (*self.dense, *pairs, self.negative_zeros, self.whole)
        return tuple(tensor for tensor in found if tensor is not None)


@frozen
class DeltaFacts:
    """The facts that a delta records beside its ledger."""

    tensors: tuple[TensorSpec, ...]
    """The tensors of FINE that it holds differences of, by name, with FINE's dtypes."""
    equal: tuple[str, ...]
    """The names of tensors that are the same in FINE and BASE."""


def plane_entries(spec: TensorSpec, form: DeltaForm) -> list[TensorSpec]:
    """The tensors that hold the difference of one tensor."""
    name, dtype, shape = spec
    if not form.planes:
        return [(f"c:{name}", dtype, shape)]
    count = prod(shape)
    places = index_dtype(count)
    entries: list[TensorSpec] = []
    for number, plane in enumerate(form.planes):
        if plane.is_sparse(count):
            entries.append((f"{number}i:{name}", places, (plane.present,)))
            entries.append((f"{number}v:{name}", plane.dtype, (plane.present,)))
        else:
            entries.append((f"{number}:{name}", plane.dtype, shape))
    if form.negative_zeros:
        entries.append((f"s:{name}", places, (form.negative_zeros,)))
    return entries


def planes_by_tensor(tensors: Iterable[Tensor], facts: DeltaFacts) -> dict[str, DeltaPlanes]:
    """The planes that hold the difference of each tensor; ValueError for a malformed delta."""
    found: dict[str, dict[str, Tensor]] = {name: {} for name, _, _ in facts.tensors}
    for tensor in tensors:
        mark, _, name = tensor.name.partition(":")
        if PLANE.match(tensor.name) is None or name not in found:
            raise ValueError(f"{tensor.name!r} is not a plane of it")
        found[name][mark] = tensor
    return {spec[0]: _checked(spec, found[spec[0]]) for spec in facts.tensors}


def _checked(spec: TensorSpec, held: dict[str, Tensor]) -> DeltaPlanes:
    """The planes of one tensor, checked to be a form that soupctl writes."""
    name, dtype, shape = spec
    if (whole := held.get("c")) is not None:
        if len(held) > 1 or (whole.dtype, whole.shape) != (dtype, shape):
            raise ValueError(f"{name!r} is kept in another form")
        return DeltaPlanes(whole=whole)
    if dtype.kind is not Kind.FLOAT:
        raise ValueError(f"{name!r} is of {dtype.value}, and not kept whole")
    dense: list[Tensor] = []
    sparse: list[tuple[Tensor, Tensor]] = []
    for number in ("0", "1"):
        plane, places, values = (held.pop(f"{number}{mark}", None) for mark in ("", "i", "v"))
        if plane is not None and places is None and values is None:
            _require(plane.shape == shape and plane.dtype.kind is Kind.FLOAT, name)
            dense.append(plane)
        elif plane is None and places is not None and values is not None:
            _require(_are_places(places, shape) and values.shape == places.shape, name)
            _require(values.dtype.kind is Kind.FLOAT, name)
            sparse.append((places, values))
        else:
            _require(number == "1" and not (plane or places or values), name)
    signs = held.pop("s", None)
    _require(not held and (signs is None or _are_places(signs, shape)), name)
    return DeltaPlanes(tuple(dense), tuple(sparse), signs)


def _are_places(tensor: Tensor, shape: Sequence[int]) -> bool:
    count = prod(shape)
    right = tensor.dtype is index_dtype(count) and len(tensor.shape) == 1
    return right and tensor.count <= count


def _require(right: bool, name: str) -> None:
    if not right:
        raise ValueError(f"{name!r} is kept in another form")


def encode_facts(facts: DeltaFacts, ledger: str, digest: Digest) -> str:
    """The facts as canonical JSON, sealed with their own digest and bound to the ledger's text."""
    body = {
        "equal": list(facts.equal),
        "format": DELTA_FORMAT,
        "ledger": digest(ledger),
        "tensors": [[name, dtype.value, list(shape)] for name, dtype, shape in facts.tensors],
    }
    return canonical(sealed(body, digest))


def parse_facts(text: str, ledger: str, path: str, digest: Digest) -> DeltaFacts:
    """The facts that `text` holds, checked in full; LedgerError for `path` if they are not sound.

    Facts that were written with another ledger than the text `ledger` are not sound.
    """

    def parse(body: dict[str, Any]) -> DeltaFacts:
        specs = (_spec(*each) for each in body["tensors"])
        return DeltaFacts(tuple(specs), tuple(body["equal"]))

    def is_sound(facts: DeltaFacts) -> bool:
        names = [name for name, _, _ in facts.tensors]
        return (
            all(type(name) is str for name in facts.equal)
            and all(list(each) == sorted(set(each)) for each in (names, facts.equal))
            and not set(names) & set(facts.equal)
            and encode_facts(facts, ledger, digest) == text
        )

    return read_record(text, path, RECORD, parse, is_sound)


def _spec(name: object, dtype: str, shape: Sequence[object]) -> TensorSpec:
    if not isinstance(name, str):
        raise TypeError("a name is a text")
    sizes = [size for size in shape if type(size) is int and size >= 0]
    if len(sizes) != len(shape):
        raise ValueError("a shape is a list of sizes")
    return name, DType(dtype), tuple(sizes)
