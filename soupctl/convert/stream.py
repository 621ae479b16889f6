"""The pass over the input of a conversion: every tensor is read once, cast, written and digested.

Rule 1: a range whose dtype stays is copied; any other element is rounded once, to nearest even.
Rule 2: unlike in a soup, -0.0 stays -0.0: there is no sum in which its sign would be lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import Row, tensor_hasher
from ..engines.contract import Engine, NonFinite, OutOfRange, Scales, WeightedMean
from ..errors import MismatchError
from ..format.dtypes import DType
from ..format.gguf import BLOCK, BLOCK_BYTES
from ..frozen import frozen
from ..merge.chunks import chunk_elements, ranges
from ..merge.scale_values import lay_out_scales, read_scale
from ..merge.tensor_errors import nonfinite, wider
from ..merge.terms import row_of
from ..workers import Advance, Scratch
from .dtypes import ConvertedTensor, OutputComponent, SourceKinds
from .pieces import TensorRange, places
from .zero_signs import keep_zero_signs

Work = Callable[[int, int, int, memoryview, memoryview], int]
"""Writes elements of a range, of the chunk that was just read.

It is given their first and last, the first of the chunk, the chunk, and memory for the output, and
returns the bytes that it wrote.
"""
WriteRange = Callable[[int, str, int, memoryview], None]
"""Writes bytes at an offset within a tensor of the output's component of that number."""


@frozen
class PlacedRange:
    """A range of an input tensor with its place in the output."""

    component: int
    """The index of the output's component."""
    tensor: ConvertedTensor
    range: TensorRange
    start: int
    """The element of the output tensor that it begins at."""

    @property
    def out_width(self) -> int:
        """Bytes of an element in the output; only casts have a use for it."""
        return self.tensor.dtype.bits // 8


@dataclass(slots=True)
class StreamedTensor:
    """What was found out about an input tensor in the pass."""

    component: int
    row: Row
    errors: list[tuple[int, str, float, float, float]] = field(default_factory=list)
    """For codes that were written: component, tensor, largest value, squares of errors, of values.
    """


def placed_ranges(
    components: Sequence[OutputComponent],
) -> Mapping[tuple[int, str], Sequence[PlacedRange]]:
    """Where the ranges of each input tensor go, by its component and name."""
    found: dict[tuple[int, str], list[PlacedRange]] = defaultdict(list)
    for number, component in enumerate(components):
        for tensor in component.tensors:
            for each, start in places(tensor.arranged):
                found[each.component, each.tensor].append(PlacedRange(number, tensor, each, start))
    return found


@frozen
class TensorStream:
    """Reads and converts input tensors; all threads share one."""

    checkpoints: Sequence[Checkpoint]
    kinds: SourceKinds
    engine: Engine
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    allow_nonfinite: bool
    write: WriteRange
    largest: Mapping[tuple[int, str], tuple[float, float]] = field(default_factory=dict)
    """The largest value and the scale of each tensor that becomes codes."""
    scratch: Scratch = field(default_factory=Scratch)

    def convert(
        self, component: int, name: str, placed: Sequence[PlacedRange], advance: Advance
    ) -> StreamedTensor:
        """Read an input tensor and write its ranges where they belong."""
        stored = self.checkpoints[component].stored(name)
        tensor = stored.tensor
        hasher = tensor_hasher()
        width = max((each.out_width for each in placed), default=0)
        step = BLOCK if any(each.tensor.is_blocks for each in placed) else 1
        chunk, (row, out) = self._memory(tensor.dtype, tensor.count, width, step)
        found = StreamedTensor(component, ("", "", (), ""))
        works = [self._work(each, row, found) for each in placed]
        for start, stop in ranges(tensor.count, chunk):
            here = row[: (stop - start) * tensor.dtype.bits // 8]
            stored.read_into(here, start * tensor.dtype.bits // 8)
            hasher.update(here)
            moved = len(here)
            for each, work in zip(placed, works, strict=True):
                low = max(start, each.range.first)
                high = min(stop, each.range.first + each.range.count)
                if low < high:
                    moved += work(low, high, start, here, out)
            advance(moved)
        found.row = row_of(tensor, hasher.hexdigest())
        return found

    def _memory(
        self, dtype: DType, count: int, width: int, step: int = 1
    ) -> tuple[int, list[memoryview]]:
        """Elements in a chunk, a multiple of `step`, and memory for one of input and output."""
        each = max(1, dtype.bits // 8) + width
        chunk = max(1, min(count, self.chunk or chunk_elements(each)))
        chunk += -chunk % step
        if dtype.bits < 8:
            # so that a chunk ends with a byte
            chunk = count or 1
        return chunk, self.scratch.parts(-(-chunk * dtype.bits // 8), chunk * width)

    def _work(self, placed: PlacedRange, row: memoryview, found: StreamedTensor) -> Work:
        if placed.tensor.is_copied:
            return self._copying(placed)
        if placed.tensor.is_quantised:
            return self._encoding(placed, row, found)
        if placed.tensor.is_blocks:
            return self._blocking(placed, row)
        return self._casting(placed, row)

    def _copying(self, placed: PlacedRange) -> Work:
        bits = placed.tensor.dtype.bits

        def copy(low: int, high: int, start: int, data: memoryview, _: memoryview) -> int:
            piece = data[(low - start) * bits // 8 : (high - start) * bits // 8]
            self._put(placed, low, piece)
            return len(piece)

        return copy

    def _casting(self, placed: PlacedRange, row: memoryview) -> Work:
        dtype, out_dtype, width = self._dtype(placed), placed.tensor.dtype, placed.out_width
        spec = WeightedMean((dtype,), (1,), out_dtype, self.allow_nonfinite)
        combine = self.engine.prepare(spec, [row], self._scales(placed))
        label = self.kinds.labels[placed.range.component]

        def cast(low: int, high: int, start: int, data: memoryview, out: memoryview) -> int:
            piece = out[: (high - low) * width]
            with _naming(label, placed, start):
                combine(low - start, high - start, piece, start)
            size = dtype.bits // 8
            keep_zero_signs(data[(low - start) * size : (high - start) * size], piece, width)
            self._put(placed, low, piece)
            return len(piece)

        return cast

    def _blocking(self, placed: PlacedRange, row: memoryview) -> Work:
        """Writes whole Q8_0 blocks; ranges and chunks begin and end with one."""
        import numpy as np

        from .gguf.blocks import blocks_of

        spec = WeightedMean((self._dtype(placed),), (1,), DType.F32)
        combine = self.engine.prepare(spec, [row], self._scales(placed))
        label, name = self.kinds.labels[placed.range.component], placed.tensor.name

        def block(low: int, high: int, start: int, _: memoryview, out: memoryview) -> int:
            piece = out[: (high - low) * placed.out_width]
            with _naming(label, placed, start):
                combine(low - start, high - start, piece, start)
            try:
                made = blocks_of(np.frombuffer(piece, np.float32))
            except OverflowError as error:
                advice = f"--dtype-for '{name}=F32' stores it as it is"
                raise MismatchError(str(error), path=label, tensor=name, advice=advice) from None
            first = placed.start + low - placed.range.first
            self.write(placed.component, name, first // BLOCK * BLOCK_BYTES, memoryview(made))
            return len(made)

        return block

    def _encoding(self, placed: PlacedRange, row: memoryview, found: StreamedTensor) -> Work:
        spec = WeightedMean((self._dtype(placed),), (1,), placed.tensor.dtype)
        _, scale = self.largest[placed.component, placed.tensor.name]
        quantise = self.engine.prepare_codes(spec, scale, [row], self._scales(placed))
        label = self.kinds.labels[placed.range.component]

        def encode(low: int, high: int, start: int, _: memoryview, out: memoryview) -> int:
            piece = out[: high - low]
            with _naming(label, placed, start):
                made = quantise(low - start, high - start, piece, start)
            name = placed.tensor.name
            found.errors.append((placed.component, name, made.largest, made.squares, made.means))
            self._put(placed, low, piece)
            return len(piece)

        return encode

    def find_largest(
        self, component: int, name: str, placed: Sequence[PlacedRange], advance: Advance
    ) -> list[tuple[int, str, float]]:
        """The largest magnitude in each range that becomes codes: component, tensor, value."""
        stored = self.checkpoints[component].stored(name)
        tensor = stored.tensor
        chunk, (row, _) = self._memory(tensor.dtype, tensor.count, 1)
        spec = WeightedMean((self._dtype(placed[0]),), (1,), placed[0].tensor.dtype)
        search = self.engine.prepare_largest(spec, [row], self._scales(placed[0]))
        found = [0.0] * len(placed)
        for start, stop in ranges(tensor.count, chunk):
            here = row[: (stop - start) * tensor.dtype.bits // 8]
            stored.read_into(here, start * tensor.dtype.bits // 8)
            for number, each in enumerate(placed):
                low = max(start, each.range.first)
                high = min(stop, each.range.first + each.range.count)
                if low < high:
                    with _naming(self.kinds.labels[component], each, start):
                        one = search(low - start, high - start, start)
                    found[number] = max(found[number], one)
            advance(len(here))
        return [
            (each.component, each.tensor.name, value)
            for each, value in zip(placed, found, strict=True)
        ]

    def _dtype(self, placed: PlacedRange) -> DType:
        """The dtype in which the input stores the range."""
        return self.kinds.contents[placed.range.component][placed.range.tensor].dtype

    def _scales(self, placed: PlacedRange) -> Scales | None:
        component, name = placed.range.component, placed.range.tensor
        scale = self.kinds.scale(component, name)
        if scale is None:
            return None
        shape = self.kinds.contents[component][name].shape
        return lay_out_scales(shape, [read_scale(scale, self.checkpoints[component])])

    def _put(self, placed: PlacedRange, low: int, data: memoryview) -> None:
        """Write elements of a range, from element `low` of the input tensor on."""
        bits = placed.tensor.dtype.bits
        offset = (placed.start + low - placed.range.first) * bits // 8
        if not placed.range.is_transposed:
            self.write(placed.component, placed.tensor.name, offset, data)
            return
        # rows of the input are columns of the output, which lie apart
        self._put_columns(placed, low, data, bits // 8)

    def _put_columns(self, placed: PlacedRange, low: int, data: memoryview, width: int) -> None:
        height, across = placed.tensor.arranged.shape
        for first in range(min(height, len(data) // width)):
            # an element, and those of the same output row, one every `height`
            row, column = divmod(low + first, height)
            picked = _every(data[first * width :], height, width)
            offset = (column * across + row) * width
            self.write(placed.component, placed.tensor.name, offset, memoryview(picked))


def _every(data: memoryview, step: int, width: int) -> bytes:
    """One of every `step` elements of `width` bytes, beginning with the first."""
    import numpy as np

    elements = np.frombuffer(data, np.dtype((np.void, width)))
    return elements[::step].tobytes()


@contextmanager
def _naming(label: str, placed: PlacedRange, start: int) -> Iterator[None]:
    """Give errors of an engine, for a chunk from `start` on, the names of file and tensor."""
    name = placed.range.tensor
    try:
        yield
    except NonFinite as found:
        may_allow = not (placed.tensor.is_quantised or placed.tensor.is_blocks)
        raise nonfinite(label, name, start + found.element, may_allow=may_allow) from None
    except OutOfRange as found:
        raise MismatchError(
            f"element {start + found.element} is beyond the range of {placed.tensor.dtype.value}",
            path=label,
            tensor=name,
            advice=wider(placed.tensor.dtype),
        ) from None
