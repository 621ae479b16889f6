"""Finds quantised tensors by the table of schemes: the codes, their companions and scales.

Rule 1: the cost is linear in the number of tensors, whatever the number of schemes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import prod

from ..format.dtypes import INTEGERS, DType, Kind
from ..format.header import Tensor
from ..format.scales import CodeScale, matrix_shape, scale_grid
from ..pattern import pattern
from .constants import CONSTANTS
from .facts import TensorFacts
from .kind import Role, TensorKind
from .quantised import (
    FP8,
    MARKERS,
    NARROW,
    ORPHAN,
    PACKED,
    PLAIN,
    POWERS,
    SCALES_OF,
    SCHEMES,
    Scheme,
)

ORDINARY = (".weight", ".bias")
"""The end of most names, which no companion has."""
CODES = frozenset({"weight", "qweight"})
"""Last parts of the names of matrices, whose integers are codes."""
BLOCK = (128, 128)
"""Rows and columns of a block if no config gives them (DeepSeek-V3)."""
DEEPEST = 3
"""Most modules between a layer and a tensor that says how its codes are read."""
OF_CODES = pattern("scale|zero_?p|smooth|quant|rotation|hadamard|codebook|absmax|amax")
"""Parts of the names of tensors that say how the codes beside them are read."""
DEQUANTISED = frozenset(
    {"float8_e4m3fn", "float8_e5m2", "float8_e4m3fn_rowwise", "float8_e4m3fn_blockwise"}
)
"""Layer formats whose value is code times scale (ComfyUI quant_ops.py)."""
METHODS = {
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "int8",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "vptq": "VPTQ",
    "quip": "QuIP#",
    "eetq": "EETQ",
    "higgs": "HIGGS",
}
"""Names of a config's `quant_method` in messages, where they differ."""

_BY_END: dict[str, tuple[int, ...]] = {
    end: tuple(number for number, each in enumerate(SCHEMES) if end in (*each.required, *each.more))
    for scheme in SCHEMES
    for end in (*scheme.required, *scheme.more)
}
_LONGEST = max(map(len, _BY_END))
_DELIMITER = pattern("[._:]")


def find_codes(tensors: Mapping[str, Tensor], facts: TensorFacts) -> dict[str, TensorKind]:
    """The kind of each code and companion among the tensors, by name."""
    found: dict[str, TensorKind] = {}
    layers = dict(facts.layers)
    strange = _strange_companions(tensors)
    for (number, stem), ends in sorted(_companions(tensors).items()):
        scheme, code = SCHEMES[number], stem + SCHEMES[number].code
        if not _fits(scheme, stem, tensors):
            continue
        if scheme.dtypes == PLAIN:
            # such a weight is averaged as it is, which is right if the scale is the same in all
            for end in ends:
                found.setdefault(stem + end, TensorKind(Role.COMPANION, scheme.title, of=code))
            continue
        if code not in found:
            layer = code.rpartition(".")[0]
            is_strange = layer in strange and code == f"{layer}.weight"
            scale = None if is_strange else _scale(scheme, stem, tensors, facts.block)
            scale, title = _as_said(scheme, scale, layers.get(layer))
        elif _has_other_scale(found[code], scheme, stem):
            # with two scales, the file does not say which applies
            scale, title = None, UNKNOWN
        else:
            continue
        found[code] = TensorKind(Role.CODE, title, scale=scale)
        for end in ends:
            found[stem + end] = TensorKind(Role.COMPANION, title, of=code)
    for name, kind in _leftovers(tensors, layers, facts.quantisation, strange):
        found.setdefault(name, kind)
    return found


UNKNOWN = "fp8 with scales of an unknown layout"


def _as_said(
    scheme: Scheme, scale: CodeScale | None, said: str | None
) -> tuple[CodeScale | None, str]:
    """The scale that a code is read with, and its scheme, by what is said of the layer."""
    if not scheme.is_scaled:
        return None, scheme.title
    if said is not None and said not in DEQUANTISED:
        return None, said
    return scale, scheme.title if scale else UNKNOWN


def _has_other_scale(code: TensorKind, scheme: Scheme, stem: str) -> bool:
    if code.scale is None or not scheme.is_scaled:
        return False
    return code.scale.tensor != stem + scheme.required[0]


def _companions(tensors: Mapping[str, Tensor]) -> dict[tuple[int, str], list[str]]:
    """By scheme and stem of the name, the endings of the companions that exist."""
    found: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name in tensors:
        if name.endswith(ORDINARY):
            continue
        for end in _ends(name):
            for number in _BY_END.get(end, ()):
                found[number, name[: -len(end)]].append(end)
    return found


def _ends(name: str) -> Iterator[str]:
    """The endings of a name that may mark a companion."""
    if len(name) <= _LONGEST:
        yield name
    for delimiter in _DELIMITER.finditer(name, max(0, len(name) - _LONGEST - 1)):
        start = delimiter.start()
        yield name[start:]
        if name[start] == "." and start + 1 < len(name):
            yield name[start + 1 :]


def _fits(scheme: Scheme, stem: str, tensors: Mapping[str, Tensor]) -> bool:
    code = tensors.get(stem + scheme.code)
    needed = [tensors.get(stem + end) for end in scheme.required]
    if code is None or None in needed or (scheme.dtypes and code.dtype not in scheme.dtypes):
        return False
    first = needed[0]
    assert first is not None
    return not scheme.scale_dtypes or first.dtype in scheme.scale_dtypes


def _scale(
    scheme: Scheme, stem: str, tensors: Mapping[str, Tensor], block: tuple[int, int] | None
) -> CodeScale | None:
    """The scale of a code; None if its shape does not determine the block of each value."""
    # uses the given names, which may differ from those in the file
    name = stem + scheme.required[0]
    code, scale = tensors[stem + scheme.code], tensors[name]
    if scale.dtype.kind is not Kind.FLOAT:
        return None
    rows, columns = (max(1, size) for size in matrix_shape(code.shape))
    count = prod(scale.shape)
    if count == 1:
        return CodeScale(name, (rows, columns))
    if count == rows == scale.shape[0]:
        return CodeScale(name, (1, columns))
    if len(scale.shape) != 2 or len(code.shape) != 2 or not count:
        return None
    grid = (scale.shape[0], scale.shape[1])
    for each in (block, BLOCK, (-(-rows // grid[0]), -(-columns // grid[1]))):
        # without a config, the blocks must divide the codes evenly; otherwise several block sizes
        # would fit
        is_sure = each in (block, BLOCK) or (rows % grid[0] == 0 and columns % grid[1] == 0)
        if each is not None and is_sure and scale_grid(code.shape, each) == grid:
            return CodeScale(name, each)
    return None


def _leftovers(
    tensors: Mapping[str, Tensor],
    layers: Mapping[str, str],
    method: str | None,
    strange: frozenset[str],
) -> Iterator[tuple[str, TensorKind]]:
    """Markers, and codes that only a config, metadata or the dtype of a weight reveals."""
    said = METHODS.get(method, method) if method else None
    packed = _packed(tensors, is_quantised=said is not None)
    parents = {name.rpartition(".")[0] for name in packed}
    for name, tensor in tensors.items():
        parent, _, last = name.rpartition(".")
        if last in MARKERS:
            yield name, TensorKind(Role.COMPANION, MARKERS[last])
        elif last in SCALES_OF and parent not in parents and _is_orphan(parent, last, tensors):
            yield name, TensorKind(Role.COMPANION, ORPHAN)
        elif tensor.dtype in PLAIN:
            continue
        elif last == "weight" and tensor.dtype in FP8 and parent in strange:
            yield name, TensorKind(Role.CODE, UNKNOWN)
        elif parent in layers and tensor.dtype in NARROW:
            yield name, TensorKind(Role.CODE, layers[parent])
        elif name in packed:
            yield name, TensorKind(Role.CODE, said or f"{tensor.dtype.value} codes")


def _packed(tensors: Mapping[str, Tensor], *, is_quantised: bool) -> frozenset[str]:
    """The integers that are codes, whatever their name: matrices of weights, and integers scaled.

    If a config says that the model `is_quantised`, those are all that are no constants.
    """
    integers = [(name, each) for name, each in tensors.items() if each.dtype in INTEGERS]
    if not integers:
        return frozenset()
    scaled = {
        parent
        for parent, _, last in (name.rpartition(".") for name in tensors)
        if OF_CODES.search(last) and _may_scale(tensors[f"{parent}.{last}" if parent else last])
    }

    def is_code(name: str, tensor: Tensor) -> bool:
        parent, _, last = name.rpartition(".")
        if last in CONSTANTS:
            return False
        if len(tensor.shape) > 1 and (last in CODES or tensor.dtype is DType.I8):
            return True
        is_said = is_quantised or (parent != "" and parent in scaled)
        return is_said and bool(tensor.shape) and tensor.dtype in PACKED

    return frozenset(name for name, tensor in integers if is_code(name, tensor))


def _is_orphan(parent: str, last: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether no tensor is there that a scale, found by its parent and last part, may be of."""
    names = {parent, *(f"{parent}.{end}".lstrip(".") for end in (SCALES_OF[last], *CODES))}
    return names.isdisjoint(tensors)


def _strange_companions(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """The layers with an unknown tensor beside their weight that seems to say how to read it.

    It may be deeper: in a module of its own, or named after the weight, as in `weight.scale`.
    """
    return frozenset(
        layer
        for name, tensor in tensors.items()
        if OF_CODES.search(name) and _may_scale(tensor)
        for layer in _layers_above(name, tensors)
    )


def _layers_above(name: str, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The layers whose weight an unknown tensor may scale, by its name."""
    parent, _, last = name.rpartition(".")
    if last not in KNOWN and OF_CODES.search(last):
        yield parent
    for _ in range(min(DEEPEST, parent.count("."))):
        parent = parent.rpartition(".")[0]
        weight = tensors.get(f"{parent}.weight")
        if weight is not None and weight.dtype in FP8 and OF_CODES.search(name, len(parent)):
            yield parent


def _may_scale(tensor: Tensor) -> bool:
    # some models were cast to fp8 including their norms, whose weights are named `scale`
    return tensor.dtype in PLAIN or tensor.dtype in POWERS


KNOWN = frozenset(
    end.lstrip(".")
    for scheme in SCHEMES
    # those that extend the code's whole name are no last parts
    if scheme.is_scaled and scheme.code
    for end in (*scheme.required, *scheme.more)
)
"""Last parts of the names of companions that codes are read with."""
