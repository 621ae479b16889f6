"""Descriptions of the quantisation schemes of ingredients that were averaged by value."""

from __future__ import annotations

from collections.abc import Sequence

from ..format.scales import CodeScale, matrix_shape
from .plan import Plan


def schemes(plan: Plan) -> dict[int, tuple[str, ...]]:
    """For each source of a plan, the sorted schemes of its codes; empty without codes."""
    found: dict[int, set[str]] = {}
    for step in plan.steps:
        for source, scale in zip(step.sources, step.scales, strict=False):
            if scale is not None:
                found.setdefault(source, set()).add(_scheme(step.shape, scale))
    return {source: tuple(sorted(each)) for source, each in found.items()}


def _scheme(shape: Sequence[int], scale: CodeScale) -> str:
    rows, columns = (max(1, size) for size in matrix_shape(tuple(shape)))
    high, wide = scale.block
    if high >= rows and wide >= columns:
        return "fp8 per tensor"
    if high == 1 and wide >= columns:
        return "fp8 per channel"
    return f"fp8 per block of {high}x{wide}"
