"""Finds quantised tensors by the table of schemes: each code, its companions, and its scale.

Rule 1: the cost is linear in the number of tensors, whatever the number of schemes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import prod

from ..format.dtypes import DType, Kind
from ..format.header import Tensor
from ..format.scales import CodeScale, matrix_shape, scale_grid
from .facts import TensorFacts
from .kind import Role, TensorKind
from .quantised import FP8, MARKERS, METHODS, NARROW, SCHEMES, Scheme

ORDINARY = (".weight", ".bias")
"""What most names end in, and the name of no companion."""
PLAIN = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})
"""Dtypes of what is no code."""
BLOCK = (128, 128)
"""Rows and columns of a block where no config says it (DeepSeek-V3)."""

_BY_END: dict[str, tuple[int, ...]] = {
    end: tuple(number for number, each in enumerate(SCHEMES) if end in (*each.required, *each.more))
    for scheme in SCHEMES
    for end in (*scheme.required, *scheme.more)
}
_LONGEST = max(map(len, _BY_END))
_DELIMITER = re.compile("[._:]")


def find_codes(tensors: Mapping[str, Tensor], facts: TensorFacts) -> dict[str, TensorKind]:
    """The kind of each code and companion among the tensors, by name."""
    found: dict[str, TensorKind] = {}
    for (number, stem), ends in sorted(_companions(tensors).items()):
        scheme = SCHEMES[number]
        code = stem + scheme.code
        if code not in found and _fits(scheme, stem, tensors):
            scale = _scale(scheme, stem, tensors, facts.block) if scheme.is_scaled else None
            known = scale is not None or not scheme.is_scaled
            title = scheme.title if known else "fp8 with scales of an unknown layout"
            found[code] = TensorKind(Role.CODE, title, scale=scale)
            for end in ends:
                found[stem + end] = TensorKind(Role.COMPANION, title, of=code)
    for name, kind in _leftovers(tensors, facts):
        found.setdefault(name, kind)
    return found


def _companions(tensors: Mapping[str, Tensor]) -> dict[tuple[int, str], list[str]]:
    """By scheme and stem of a name, the ends of companions that there are."""
    found: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name in tensors:
        if name.endswith(ORDINARY):
            continue
        for end in _ends(name):
            for number in _BY_END.get(end, ()):
                found[number, name[: -len(end)]].append(end)
    return found


def _ends(name: str) -> Iterator[str]:
    """The ends of a name that may be those of a companion."""
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
    """The scale of a code; None if its shape does not say which codes each value is for."""
    # by the names that are given, which need not be those of the file
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
        # blocks of no config must divide the codes: else several sizes would fit
        is_sure = each in (block, BLOCK) or (rows % grid[0] == 0 and columns % grid[1] == 0)
        if each is not None and is_sure and scale_grid(code.shape, each) == grid:
            return CodeScale(name, each)
    return None


def _leftovers(
    tensors: Mapping[str, Tensor], facts: TensorFacts
) -> Iterator[tuple[str, TensorKind]]:
    """Markers, and codes of which only a config, metadata or the dtype of a weight tells."""
    layers = dict(facts.layers)
    for name, tensor in tensors.items():
        if tensor.dtype in PLAIN:
            continue
        parent, _, last = name.rpartition(".")
        if last in MARKERS:
            yield name, TensorKind(Role.COMPANION, MARKERS[last])
        elif tensor.dtype in FP8 and _has_unknown_scale(parent, tensors):
            yield name, TensorKind(Role.CODE, "fp8 with scales of an unknown layout")
        elif parent in layers and tensor.dtype in NARROW:
            yield name, TensorKind(Role.CODE, layers[parent])
        elif last == "weight" and len(tensor.shape) > 1 and tensor.dtype.kind is Kind.INTEGER:
            method = facts.quantisation
            title = METHODS.get(method, method) if method else f"{tensor.dtype.value} codes"
            yield name, TensorKind(Role.CODE, title)


UNKNOWN_SCALES = ("scale", "scales", "weight_scales", "weight_scale_1", "scale_inv", "w_scale")


def _has_unknown_scale(parent: str, tensors: Mapping[str, Tensor]) -> bool:
    return any(f"{parent}.{last}" in tensors for last in UNKNOWN_SCALES)
