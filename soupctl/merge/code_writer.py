"""Writing the exact mean of a tensor as float8 codes and one scale.

Rule 1: the scale is the float32 nearest to the largest mean over the largest code; each code is the
one nearest to mean over scale, as real numbers, of two the even one.
Rule 2: means are rounded to float64 here; if that is half-way between two codes, the sign of the
exact difference decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..checkpoints.digest import Row, tensor_hasher
from ..engines.contract import Engine, WeightedMean
from ..engines.reference import decode, largest_code
from ..errors import OutputError
from ..format.dtypes import DType
from .code_error import CodeError
from .quantised_steps import CODES, SCALES, scale_name
from .weighted_sum import WeightedSum

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST = float(CODES.float_format.largest)
SMALLEST_SCALE = 2.0**-126
"""The smallest normal float32: devices flush smaller ones to zero."""
SIGN = 0x80
LOW_BITS = (1 << 48) - 1
"""Bits of a float64 that are zero in every code, and half-way between any two."""
BYTES_AN_ELEMENT = 48
"""Memory that an element of a chunk takes while it is encoded."""


def scale_of(largest: float) -> float:
    """The scale of a tensor by its largest mean; 1 for a tensor of zeros."""
    import numpy as np

    return max(float(np.float32(largest / LARGEST)), SMALLEST_SCALE) if largest else 1.0


class CodeWriter:
    """Encodes the chunks of one tensor, and adds up the error."""

    def __init__(self, weighted: WeightedSum, tensor: str, largest: float, engine: Engine) -> None:
        """`largest` is the largest magnitude of the tensor's means."""
        import numpy as np

        self._weighted, self._tensor, self._engine = weighted, tensor, engine
        self._largest, self._scale = largest, scale_of(largest)
        self._found = 0.0
        self._values = np.array(
            [float(decode(code, CODES)) for code in range(largest_code(CODES.float_format) + 1)]
        )
        self._squares = self._means = 0.0

    def encode(self, start: int, means: NDArray[np.float64], out: memoryview) -> None:
        """Write the codes of the elements from `start` on, whose terms were just read, to `out`."""
        import numpy as np

        self._found = max(self._found, largest_of(means))
        if self._found > self._largest:
            raise OutputError("an input was changed while it was read", tensor=self._tensor)
        ratios = means / self._scale
        exact = WeightedMean((DType.F64,), (1,), CODES)
        self._engine.prepare(exact, [_bytes(ratios)])(0, means.size, out)
        codes = np.frombuffer(out, np.uint8)
        magnitudes = codes & np.uint8(SIGN - 1)
        self._decide(start, ratios, magnitudes)
        np.bitwise_or(magnitudes, np.signbit(ratios) * np.uint8(SIGN), out=codes)
        errors = self._values[magnitudes] * self._scale - np.abs(means)
        self._squares += sum_of_squares(errors)
        self._means += sum_of_squares(means)

    def _decide(
        self, start: int, ratios: NDArray[np.float64], magnitudes: NDArray[np.uint8]
    ) -> None:
        """Correct codes where the float64 mean is half-way between two of them."""
        import numpy as np

        # half-way between codes, few bits are left
        rare = np.flatnonzero(ratios.view(np.int64) & LOW_BITS == 0)
        sizes, near = np.abs(ratios[rare]), self._values[magnitudes[rare]]
        beside = np.minimum(magnitudes[rare] + np.where(sizes > near, 1, -1), len(self._values) - 1)
        are_ties = 2 * sizes == near + self._values[beside]
        ties, beside = rare[are_ties], beside[are_ties]
        if not ties.size:
            return
        points = np.zeros(ratios.size)
        points[ties] = ratios[ties] * self._scale
        sides = np.frombuffer(self._weighted.beside(start, _bytes(points)), np.float64)[ties]
        sides = sides * np.sign(ratios[ties])
        low = np.minimum(magnitudes[ties], beside)
        magnitudes[ties] = np.where(sides == 0, magnitudes[ties], low + (sides > 0))

    def scale_row(self) -> tuple[Row, bytes]:
        """The scale's row for the root of the soup, and its bytes."""
        import numpy as np

        if self._found != self._largest:
            raise OutputError("an input was changed while it was read", tensor=self._tensor)
        data = np.float32(self._scale).astype("<f4").tobytes()
        hasher = tensor_hasher()
        hasher.update(data)
        return (scale_name(self._tensor), SCALES.value, (), hasher.hexdigest()), data

    def error(self) -> CodeError:
        """The quantisation error so far."""
        made = CodeError(1, self._squares, self._means, 0.0, self._tensor)
        return CodeError(1, self._squares, self._means, made.relative, self._tensor)


def largest_of(means: NDArray[np.float64]) -> float:
    """The largest magnitude of some means."""
    import numpy as np

    return float(np.abs(means).max(initial=0.0))


def as_float64(data: memoryview) -> NDArray[np.float64]:
    """The bytes of means as an array."""
    import numpy as np

    return np.frombuffer(data, np.float64)


def _bytes(values: NDArray[np.float64]) -> memoryview:
    return values.data.cast("B")


def sum_of_squares(values: NDArray[np.float64]) -> float:
    """The sum of the squares of some values, in this thread alone.

    A product of vectors would start the threads of a library beside ours, which spin for work.
    """
    import numpy as np

    return float(np.einsum("i,i->", values, values))
