"""Deltas made and applied in one line each, adversarial floats, and what comes of them exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from making import save_raw

from soupctl import verbs
from soupctl.engines.reference import decode, encode, largest_code
from soupctl.format.dtypes import DType
from soupctl.verbs import Application, ComponentResult, DeltaRequest, DeltaResult, Ingredient

Scaled = str | tuple[str, Fraction | int]
"""The path of a delta, or such with its scale."""


def delta(fine: str, base: str, output: str, **options: Any) -> DeltaResult:
    """The delta of two checkpoints, written in place of any other."""
    (made,) = verbs.make_delta(DeltaRequest(fine, base, output, **options), force=True)
    return made


def apply(base: str, *deltas: Scaled, output: str = "out.st", **options: Any) -> ComponentResult:
    """The soup of a base and deltas, written in place of any other."""
    pairs = [each if isinstance(each, tuple) else (each, 1) for each in deltas]
    given = [Ingredient(path, Fraction(scale)) for path, scale in pairs]
    (made,) = verbs.apply(Application(base, given, output, **options), force=True)
    return made


def floats(dtype: DType, count: int, seed: object, *, zeros: bool = True) -> bytes:
    """Finite floats of both signs: zeros, subnormals, largest, near a power of two, and any."""
    form, chosen = dtype.float_format, random.Random(f"{dtype} {seed}")
    unit, largest = 2 ** (form.precision - 1), largest_code(form)
    edges = (0, 0, 1, unit - 1, unit, largest // 2, largest // 2 + 1, largest - 1, largest)
    codes = []
    for _ in range(count):
        code = chosen.choice(edges) if chosen.random() < 0.6 else chosen.randint(0, largest)
        codes.append((code or (0 if zeros else 1)) | chosen.getrandbits(1) << (dtype.bits - 1))
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes)


def numbers(dtype: DType, data: bytes) -> list[Fraction]:
    """The values of finite floats."""
    width = dtype.bits // 8
    codes = (data[place : place + width] for place in range(0, len(data), width))
    return [Fraction(decode(int.from_bytes(code, "little"), dtype)) for code in codes]


def rounded(values: Sequence[Fraction], dtype: DType) -> bytes | None:
    """Values rounded once, to nearest even; None if one is out of range."""
    codes = [encode(value, dtype) for value in values]
    if any(code is None for code in codes):
        return None
    return b"".join((code or 0).to_bytes(dtype.bits // 8, "little") for code in codes)


def save_one(path: str, dtype: DType, data: bytes, **others: Any) -> Path:
    """A checkpoint of one float tensor `w`, and any others as they lie."""
    count = len(data) * 8 // dtype.bits
    tensors: Mapping[str, Any] = {"w": (dtype.value, (count,), data), **others}
    return save_raw(Path(path), tensors)
