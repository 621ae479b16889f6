"""Errors about the values of a tensor, found while its data is read."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InputError, Issue, MismatchError
from ..format.dtypes import DType, Kind
from ..kinds.kind import AVERAGED, FIXED
from .kind_errors import not_averaged
from .step import Step


def nonfinite(label: str, tensor: str, element: int, *, may_allow: bool = True) -> InputError:
    """An ingredient holds NaN or infinity; `may_allow` tells whether the command can allow that."""
    allow, leave_out = (
        "--allow-nonfinite lets IEEE rules apply",
        f"--exclude '{tensor}' leaves it out",
    )
    return InputError(
        f"holds NaN or infinity (element {element})",
        path=label,
        tensor=tensor,
        advice=allow if may_allow else leave_out,
    )


def out_of_range(step: Step, element: int) -> MismatchError:
    """A mean is beyond the range of its dtype."""
    assert step.out is not None
    return MismatchError(
        f"the mean of element {element} is beyond the range of {step.out.value}",
        tensor=step.name,
        advice=wider(step.out),
    )


def wider(dtype: DType) -> str | None:
    """The advice for a value beyond the range of a dtype; None if there is no wider one."""
    if dtype is DType.F64:
        return None
    if dtype in (DType.F32, DType.BF16):
        return "ask for a wider dtype, such as --dtype F64"
    return "ask for a wider dtype, such as --dtype F32"


def different(step: Step, first: str, others: Iterable[str]) -> MismatchError:
    """The error for tensors, not weights, whose values differ between ingredients."""
    dtype = step.dtypes[0]
    if step.kind.role not in AVERAGED | FIXED:
        return MismatchError.collected([not_averaged(first, step.name, step.kind)])
    what = f"has other values than {first}, and {dtype.value} tensors are not averaged"
    return MismatchError.collected(
        [Issue(what, each, step.name, _advice(dtype)) for each in others]
    )


def _advice(dtype: DType) -> str:
    leave_out = "--exclude leaves the tensor out"
    if dtype.kind is Kind.INTEGER:
        return f"avg --on-int first takes the first ingredient's, {leave_out}"
    return leave_out
