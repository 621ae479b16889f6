"""The planes of a difference: the difference rounded to a dtype, and the rounding error.

Rule 1: there is no arithmetic here: each plane is a mean, with divisor one, of the exact sum's
planes and of the planes already written, the latter with weight -1.
Rule 2: the difference of two floats is at most two floats of their common dtype, unless it
overflows. See Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
Predicates" (1997), theorem 7.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...engines.contract import Engine, OutOfRange, WeightedMean
from ...engines.planes import count_present
from ...format.dtypes import FLOATS, DType, narrowest
from ..chunks import PLANE_BYTES
from .format import DeltaForm, PlaneForm, apart

Planes = Sequence[memoryview]
"""Planes of float64 that add up to an exact sum."""
Dtypes = tuple[DType, ...]
"""The dtypes of the planes of a difference."""


def candidates(fine: DType, base: DType) -> tuple[Dtypes, ...]:
    """The possible dtypes of planes for tensors of two dtypes, in order of preference."""
    common = narrowest(frozenset((fine, base)))
    pairs = dict.fromkeys(((common, common), (DType.F64, DType.F64)))
    return (*((dtype,) for dtype in FLOATS), *pairs)


class Narrowing:
    """Writes a sum as planes of other dtypes, if they hold it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def planes(self, exact: Planes, dtypes: Dtypes) -> list[memoryview] | None:
        """The sum in planes of these dtypes; None if they cannot hold it."""
        if len(exact) == 1 and dtypes[0] is DType.F64:
            nothing = memoryview(bytes(exact[0].nbytes))
            return [exact[0], *(nothing for _ in dtypes[1:])]
        found: list[memoryview] = []
        for dtype in dtypes:
            plane = self._rest(exact, found, dtypes, dtype)
            if plane is None:
                return None
            found.append(plane)
        rest = self._rest(exact, found, dtypes, DType.F64)
        return None if rest is None or count_present(rest) else found

    def _rest(self, exact: Planes, taken: Planes, dtypes: Dtypes, out: DType) -> memoryview | None:
        """The sum minus some planes, rounded; None if it is out of range."""
        count = len(exact[0]) // PLANE_BYTES
        mean = WeightedMean(
            (*(DType.F64 for _ in exact), *dtypes[: len(taken)]),
            (*(1 for _ in exact), *(-1 for _ in taken)),
            out,
            divisor=1,
        )
        plane = memoryview(bytearray(count * out.bits // 8))
        try:
            self._engine.prepare(mean, [*exact, *taken])(0, count, plane)
        except OutOfRange:
            return None
        return plane


class FormSurvey:
    """Determines the form of a difference, chunk by chunk."""

    def __init__(self, engine: Engine, fine: DType, base: DType) -> None:
        self._narrowing = Narrowing(engine)
        self._present: dict[Dtypes, list[int]] = {
            dtypes: [0] * len(dtypes) for dtypes in candidates(fine, base)
        }

    def add(self, exact: Planes) -> None:
        """Add the next chunk of the exact difference; it is empty if beyond F64's range."""
        if not exact:
            self._present.clear()
        for dtypes, counts in [*self._present.items()]:
            planes = self._narrowing.planes(exact, dtypes)
            if planes is None:
                # a form that cannot hold one chunk cannot hold the tensor
                del self._present[dtypes]
                continue
            for number, (dtype, plane) in enumerate(zip(dtypes, planes, strict=True)):
                counts[number] += count_present(plane, dtype)

    def form(self, count: int, negative_zeros: int) -> DeltaForm:
        """The smallest form for a tensor of `count` elements."""
        if not self._present:
            return apart(count, negative_zeros)
        forms = [_form(dtypes, counts) for dtypes, counts in self._present.items()]
        best = min(forms, key=lambda form: form.size(count))
        return DeltaForm(best.planes, negative_zeros)


def _form(dtypes: Dtypes, present: Sequence[int]) -> DeltaForm:
    planes = (PlaneForm(dtype, present[number]) for number, dtype in enumerate(dtypes))
    return DeltaForm(tuple(planes))
