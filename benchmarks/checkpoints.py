"""Checkpoints to measure with: real shapes, random values from a seed, written as a stream.

Rule 1: a file is a function of its layout, dtype and index; no model is ever held in memory.
Rule 2: values are N(0, 0.02), one block of 2**22 - 3 a checkpoint, repeated from ever new starting
points; checkpoints of different indices have blocks drawn apart, so that neighbours differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from unet import NamedShape, stable_diffusion_unet

SEED = 2024
DEVIATION = 0.02
# odd, so that repetitions are never aligned with rows, pages or chunks
BLOCK = 2**22 - 3
INSPECTED_BYTES = 7_000_000_000

ITEM_BYTES = {"F8_E4M3": 1, "F8_E5M2": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}


def _equal_tensors(count: int, shape: tuple[int, ...]) -> list[NamedShape]:
    digits = len(str(count - 1))
    return [NamedShape(f"blocks.{index:0{digits}}.weight", shape) for index in range(count)]


def _seven_gigabytes() -> list[NamedShape]:
    tensors = [
        NamedShape(f"model_{copy}.{tensor.name}", tensor.shape)
        for copy in range(4)
        for tensor in stable_diffusion_unet()
    ]
    rest = INSPECTED_BYTES // ITEM_BYTES["F16"] - sum(tensor.size for tensor in tensors)
    return [*tensors, NamedShape("rest.weight", (rest,))]


LAYOUTS: dict[str, Callable[[], list[NamedShape]]] = {
    "unet": stable_diffusion_unet,
    "1mb": lambda: _equal_tensors(16, (128, 256)),
    "16mb": lambda: _equal_tensors(64, (256, 512)),
    "5000-tensors": lambda: _equal_tensors(5_000, (128, 128)),
    "100000-tensors": lambda: _equal_tensors(100_000, (8,)),
    "7gb": _seven_gigabytes,
}


@dataclass(frozen=True, slots=True)
class Ingredients:
    """The checkpoints that a case needs: `count` of one layout and dtype."""

    layout: str
    dtype: str
    count: int
    sparse: bool = False
    """Whether the data is a hole: a real header, and zeros that take no disk."""

    def paths(self, folder: Path) -> list[Path]:
        """Where they lie in `folder`, in order."""
        return [folder / f"{self._stem}-{index:03}.safetensors" for index in range(self.count)]

    def soup_path(self, folder: Path) -> Path:
        """Where a soup of all of them lies in `folder`, once it has been made."""
        return folder / f"{self._stem}-soup-of-{self.count}.safetensors"

    @property
    def _stem(self) -> str:
        return f"{self.layout}-{self.dtype.lower()}{'-sparse' if self.sparse else ''}"

    def sum_bytes(self) -> int:
        """The most that the kept sum of such values takes: one float64 an element."""
        return 8 * sum(tensor.size for tensor in LAYOUTS[self.layout]())

    def file_bytes(self) -> int:
        """Size of each of them."""
        tensors = LAYOUTS[self.layout]()
        data = sum(tensor.size for tensor in tensors) * ITEM_BYTES[self.dtype]
        return len(header([(tensor, self.dtype) for tensor in tensors])) + data

    def write(self, folder: Path) -> list[Path]:
        """Their paths, after those that were missing have been written."""
        tensors = LAYOUTS[self.layout]()
        paths = self.paths(folder)
        for index, path in enumerate(paths):
            if not path.exists():
                write_checkpoint(path, tensors, self.dtype, index, sparse=self.sparse)
        return paths


def header(tensors: Sequence[tuple[NamedShape, str]]) -> bytes:
    """The length and the JSON that open a safetensors file with these tensors, in this order."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor, dtype in tensors:
        start, end = end, end + tensor.size * ITEM_BYTES[dtype]
        entries[tensor.name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_checkpoint(
    path: Path, tensors: list[NamedShape], dtype: str, index: int, *, sparse: bool = False
) -> None:
    """A checkpoint at `path`, the `index`-th of its kind; it appears there when it is complete."""
    opening = header([(tensor, dtype) for tensor in tensors])
    elements = sum(tensor.size for tensor in tensors)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(opening)
        if sparse:
            file.truncate(len(opening) + elements * ITEM_BYTES[dtype])
        else:
            for piece in pieces(elements, dtype, index):
                file.write(piece.data)
    partial.rename(path)


def pieces(elements: int, dtype: str, index: int) -> Iterator[npt.NDArray[np.unsignedinteger]]:
    """The bit patterns of `elements` values of the `index`-th checkpoint, as runs of one block."""
    generator = np.random.default_rng([SEED, index])
    values = generator.standard_normal(min(BLOCK, elements), dtype=np.float32) * DEVIATION
    block = encoded(values.astype(np.float32), dtype)
    left = elements
    while left > 0:
        start = int(generator.integers(block.size))
        piece = block[start : start + left]
        yield piece
        left -= piece.size


def encoded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.unsignedinteger]:
    """The bit patterns of finite float32 `values` in a float dtype, rounded to nearest."""
    if dtype == "BF16":
        bits = values.view(np.uint32)
        # adding half a unit, minus one if the kept part is even, rounds to nearest even
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype.startswith("F8"):
        edges = _eight_bit_edges(dtype)
        magnitude = np.searchsorted(edges, np.abs(values)).astype(np.uint8)
        return np.where(np.signbit(values), magnitude | np.uint8(0x80), magnitude)
    patterns = {"F16": np.uint16, "F32": np.uint32, "F64": np.uint64}
    floats = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    return values.astype(floats[dtype]).view(patterns[dtype])


def _eight_bit_edges(dtype: str) -> npt.NDArray[np.float32]:
    """Midpoints between the finite magnitudes, whose order is that of their bit patterns."""
    mantissa_bits, bias, finite = (3, 7, 127) if dtype == "F8_E4M3" else (2, 15, 124)
    patterns = np.arange(finite)
    exponent = patterns >> mantissa_bits
    fraction = (patterns & (2**mantissa_bits - 1)) / 2.0**mantissa_bits
    # exponent field 0 has no hidden bit and the scale of field 1
    magnitudes = (fraction + (exponent > 0)) * 2.0 ** (np.maximum(exponent, 1) - bias)
    edges: npt.NDArray[np.float32] = ((magnitudes[1:] + magnitudes[:-1]) / 2).astype(np.float32)
    return edges
