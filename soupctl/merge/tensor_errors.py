"""Errors about the values of a tensor, found while its data is read."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InputError, Issue, MismatchError
from ..format.dtypes import DType, Kind
from ..kinds.kind import AVERAGED, FIXED
from .kind_errors import not_averaged
from .step import Step


def nonfinite(label: str, tensor: str, element: int) -> InputError:
    """An ingredient holds NaN or infinity."""
    return InputError(
        f"holds NaN or infinity (element {element})",
        path=label,
        tensor=tensor,
        advice="--allow-nonfinite lets IEEE rules apply",
    )


def out_of_range(step: Step, element: int) -> MismatchError:
    """A mean is beyond the range of its dtype."""
    assert step.out is not None
    return MismatchError(
        f"the mean of element {element} is beyond the range of {step.out.value}",
        tensor=step.name,
        advice="ask for a wider dtype, such as --dtype F32",
    )


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
