"""What a pass over the data can find wrong, in words for a person."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InputError, Issue, MismatchError
from ..format.dtypes import DType, Kind
from .plan import Step


def nonfinite(shown: str, tensor: str, element: int) -> InputError:
    """The refusal of an ingredient that holds NaN or infinity."""
    return InputError(
        f"holds NaN or infinity (element {element})",
        path=shown,
        tensor=tensor,
        advice="--allow-nonfinite lets IEEE rules apply",
    )


def out_of_range(step: Step, element: int) -> MismatchError:
    """The refusal of a mean that its dtype does not hold."""
    assert step.out is not None
    return MismatchError(
        f"the mean of element {element} is beyond the range of {step.out.value}",
        tensor=step.name,
        advice="ask for a wider dtype, such as --dtype F32",
    )


def different(step: Step, first: str, others: Iterable[str]) -> MismatchError:
    """The refusal of ingredients, `others`, whose integers are not those of `first`."""
    dtype = step.dtypes[0]
    what = f"holds other values than in {first}, and {dtype.value} is not averaged"
    return MismatchError.collected(
        [Issue(what, other, step.name, _way_out(dtype)) for other in others]
    )


def _way_out(dtype: DType) -> str:
    leave_out = "--exclude leaves the tensor out"
    if dtype.kind is Kind.INTEGER:
        return f"--on-int first takes the first ingredient's, {leave_out}"
    return leave_out
