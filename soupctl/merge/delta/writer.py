"""Writing the difference of a tensor: its planes, chunk by chunk, each into a tensor of its own.

Rule 1: the form of each difference is known beforehand, so every plane has its place in the file.
Rule 2: a difference that does not fit its form is an error: an input has changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ...checkpoints.digest import Row
from ...engines.contract import Engine
from ...engines.planes import negated, negative_zeros, present
from ...format.dtypes import index_dtype
from ..chunks import Write
from ..plane_output import PlaneOutput
from .format import DeltaForm, TensorSpec, plane_entries
from .planes import Narrowing
from .survey import DifferenceChunk


class DifferenceWriter:
    """Writes the planes of one tensor's difference."""

    def __init__(self, spec: TensorSpec, form: DeltaForm, engine: Engine, write: Write) -> None:
        name, self._fine, shape = spec
        self._count = prod(shape)
        self._index = index_dtype(self._count)
        self._form = form
        self._narrowing = Narrowing(engine)
        self._output = PlaneOutput(name, plane_entries(spec, form), write)

    def write(self, chunk: DifferenceChunk) -> None:
        """Append the next elements; chunks come in order, and all."""
        planes = self._planes(chunk)
        for number, (form, plane) in enumerate(zip(self._form.planes, planes, strict=True)):
            if form.is_sparse(self._count):
                places, values = present(plane, chunk.start, self._index, form.dtype)
                self._output.append(f"{number}i", places)
                self._output.append(f"{number}v", values)
            else:
                self._output.append(str(number), plane)
        if self._form.negative_zeros:
            zeros = negative_zeros(chunk.fine, self._fine, chunk.start, self._index)
            self._output.append("s", zeros)

    def _planes(self, chunk: DifferenceChunk) -> Sequence[memoryview]:
        """The planes of a chunk in the dtypes of the form; OutputError if they cannot hold it."""
        if self._form.is_apart:
            return (chunk.fine, negated(chunk.base))
        dtypes = tuple(plane.dtype for plane in self._form.planes)
        planes = self._narrowing.planes(chunk.exact, dtypes) if chunk.exact else None
        self._output.require(planes is not None)
        return planes or ()

    def copy(self, data: memoryview) -> None:
        """Append bytes of a tensor that is stored whole."""
        self._output.append("c", data)

    def rows(self) -> list[Row]:
        """The tensors that were written, for the delta's root; OutputError if one is incomplete."""
        return self._output.rows()
