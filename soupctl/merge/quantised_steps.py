"""Steps that write float8 codes, and the tensors that mark them (`--quantize`).

Rule 1: the layout is that of ComfyUI: beside each code one scale of float32, and one marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import Issue, MismatchError, UsageError
from ..format.dtypes import FLOATS, DType
from ..kinds.kind import AVERAGED
from ..kinds.linear import WEIGHT, is_quantisable, quantised_prefix
from .recipe import Recipe, first_match
from .step import Step

CODES = DType.F8_E4M3
SCALES = DType.F32
MARKER = "scaled_fp8"
MARKED = bytes(2)
"""Two elements, which ask for products in full precision, so that no scale of the inputs is
needed."""


def scale_name(tensor: str) -> str:
    """The name of the scale of a code."""
    return f"{tensor.removesuffix(WEIGHT)}.scale_weight"


def with_quantised(steps: Sequence[Step], recipe: Recipe) -> tuple[list[Step], str]:
    """The steps with linear layers quantised, and the name of the marker.

    Raises UsageError if there are no linear layers, and MismatchError for tensors with the names of
    scales or the marker.
    """
    kept = {step.name for step in steps if step.out is not None}
    prefix, dtype_of = quantised_prefix(kept), first_match(recipe.dtype_for)
    taken = first_match(recipe.takes)

    def is_quantised(step: Step) -> bool:
        chosen = dtype_of(step.name) is not None or taken(step.name) is not None
        is_mean = step.out is not None and step.out in FLOATS and step.kind.role in AVERAGED
        return is_mean and not chosen and is_quantisable(step.name, step.shape, prefix)

    made = [
        replace(step, out=CODES, is_quantised=True) if is_quantised(step) else step
        for step in steps
    ]
    quantised = [step.name for step in made if step.is_quantised]
    if not quantised:
        what = f"--quantize {recipe.quantize} finds no weight of a linear layer in a block"
        raise UsageError(what, advice="leave out --quantize")
    marker = prefix + MARKER
    clash = kept & {marker, *map(scale_name, quantised)}
    if clash:
        what = f"has the name of a tensor that --quantize {recipe.quantize} adds"
        raise MismatchError.collected(
            Issue(what, tensor=name, advice=f"--exclude '{name}' leaves it out")
            for name in sorted(clash)
        )
    return made, marker
