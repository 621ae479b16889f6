"""Writing the exact sum of a tensor: its planes, chunk by chunk, each into a tensor of its own.

Rule 1: the form of each sum is known beforehand, so every plane has its place in the file.
Rule 2: a sum that does not fit its form is an error, since an input has changed; where a form was
only expected, the right one is found instead, for the sum to be written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...checkpoints.digest import Row
from ...engines.contract import Engine
from ...engines.planes import present
from ...format.dtypes import DType
from ...frozen import frozen
from ..chunks import PLANE_BYTES, SINGLE_BYTES, Write
from ..plane_output import PlaneOutput
from ..step import Step
from .format import SumForm, plane_entries
from .forms import FormFinder


@frozen
class SumOutput:
    """A kept sum that is to be written."""

    forms: Mapping[str, SumForm]
    """The form of each averaged tensor's sum, as `survey` found it."""
    write: Write
    """Writes bytes at an offset within the sum's own tensor of that name."""
    expected: frozenset[str] = frozenset()
    """Tensors whose forms are only expected."""


class PlaneWriter:
    """Writes the planes of one tensor's sum."""

    def __init__(self, step: Step, output: SumOutput, engine: Engine) -> None:
        self._form = output.forms[step.name]
        self._engine = engine
        self._finder = FormFinder(step.name, engine) if step.name in output.expected else None
        self.misfit: SumForm | None = None
        """The form of the sum if it was expected to have another; then it is written in part."""
        entries = plane_entries(step.name, step.shape, self._form)
        self._output = PlaneOutput(step.name, entries, output.write)

    def write(
        self, start: int, planes: Sequence[memoryview], memory: memoryview
    ) -> memoryview | None:
        """Write the first plane of elements from `start` on; chunks come in any order.

        Several threads may do so at once, each with memory of its own for a plane of F32. Returns
        the plane as F32, None if that does not hold it or need not be known.
        """
        first, *rest = planes
        is_single = self._form.first is DType.F32
        single: memoryview | None = memory[: len(first) * SINGLE_BYTES // PLANE_BYTES]
        if self._finder is None:
            is_wanted = is_single
        else:
            # once another chunk is known not to fit, the sum is written again
            is_wanted = not rest and self._finder.may_be(DType.F32)
        if not (is_wanted and single is not None and self._engine.narrow(first, single)):
            single = None
        if not is_single:
            self._output.write("0", start * PLANE_BYTES, first)
        elif single is not None:
            self._output.write("0", start * SINGLE_BYTES, single)
        return single

    def record(self, start: int, planes: Sequence[memoryview], single: memoryview | None) -> None:
        """Add elements from `start` on whose first plane was written; chunks come in order.

        `single` is what `write` has returned.
        """
        first, *rest = planes
        if self._finder is not None:
            self._finder.add_narrowed(planes, single is not None)
            if rest or not self._finder.may_be(self._form.first):
                self.misfit = self._finder.form()
            if self.misfit is not None:
                return
        if self._form.first is not DType.F32:
            self._output.record("0", first)
        else:
            self._output.require(single is not None)
            self._output.record("0", first if single is None else single)
        self._output.require(len(rest) <= len(self._form.rest))
        # a chunk may need fewer planes than the tensor
        zeros = memoryview(bytes(len(first) if len(rest) < len(self._form.rest) else 0))
        rest += [zeros] * (len(self._form.rest) - len(rest))
        for number, plane in enumerate(rest, 1):
            if f"{number}" in self._output.entries:
                self._output.append(f"{number}", plane)
            else:
                places, values = present(plane, start, self._output.entries[f"{number}i"][1])
                self._output.append(f"{number}i", places)
                self._output.append(f"{number}v", values)

    def rows(self) -> list[Row]:
        """The tensors that were written, for the root of the sum; OutputError if one is short.

        There are none if the sum has not the expected form.
        """
        if self._finder is not None and (found := self._finder.form()) != self._form:
            self.misfit = found
            return []
        return self._output.rows()
