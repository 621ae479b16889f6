"""Errors about tensors that are not plain weights and cannot be averaged."""

from __future__ import annotations

from ..errors import Issue
from ..format.dtypes import DType, Kind
from ..kinds.kind import Role, TensorKind
from ..kinds.quantised import ORPHAN


def not_averaged(path: str, tensor: str, kind: TensorKind) -> Issue:
    """The issue of a code or factor that is not the same in all ingredients."""
    if kind.what == ORPHAN:
        return Issue(f"is a {ORPHAN}", path, tensor, f"--exclude '{tensor}' leaves it out")
    if kind.role is not Role.FACTOR:
        what = f"is quantised ({kind.what})"
        return Issue(what, path, kind.of or tensor, "average the unquantised weights")
    if kind.what == "LoRA":
        what = "is a LoRA factor: the means of A and of B do not make the mean of the updates"
        return Issue(what, path, tensor, "soupctl apply BASE LORA adds each to a model")
    what = f"is a factor of an adapter ({kind.what}): means of factors do not make a mean update"
    return Issue(what, path, tensor, _way_to_fuse(kind.what))


def _way_to_fuse(adapter: str) -> str:
    """Advice for an adapter of that kind."""
    if adapter in APPLIED:
        return "soupctl apply BASE ADAPTER adds each to a model"
    return "fuse each adapter into its base first"


APPLIED = frozenset({"LoHa", "LoKr"})
"""Kinds of adapters, besides LoRA, that `apply` supports."""


def other_constant(
    path: str, tensor: str, kind: TensorKind, dtype: DType, values: tuple[str, str], first: str
) -> Issue:
    """The issue of a constant or setting with another value than in the ingredient `first`."""
    here, there = values
    what = f"is a {kind.role.value} ({kind.what}), and has {here} where {first} has {there}"
    return Issue(what, path, tensor, fixed_advice(tensor, kind, dtype))


def fixed_advice(tensor: str, kind: TensorKind, dtype: DType) -> str:
    """Advice for a constant or setting that differs between ingredients."""
    leave_out = f"--exclude '{tensor}' leaves it out"
    if dtype.kind is Kind.INTEGER and kind.role is Role.CONSTANT:
        return f"avg --on-int first takes the first ingredient's, {leave_out}"
    return leave_out
