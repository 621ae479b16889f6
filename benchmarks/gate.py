"""The gate before every measurement: soupctl's numbers are right, or nothing is measured.

Rule 1: the expected bytes come from `fractions.Fraction`, rounded once, and share no code with
soupctl.
Rule 2: a gate that is red raises; it never warns.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from checkpoints import ITEM_BYTES, encoded, header
from unet import NamedShape

# precision in bits with the hidden one, and the exponent of the smallest subnormal
FORMATS = {"F16": (11, -24), "BF16": (8, -133), "F32": (24, -149)}
WEIGHTS = ((1, 1), (2, 1, 1), (1, 1, 1), (3, 5, 7, 11, 1, 1, 1, 1))
# odd tails, a scalar, an empty tensor; `patterns` hold any finite bits, the rest usual weights
SHAPES: dict[str, tuple[int, ...]] = {
    "none": (0,),
    "patterns": (37, 13),
    "scalar": (),
    "weights": (701,),
}
LAYOUT = [
    (NamedShape(f"{dtype.lower()}.{name}", shape), dtype)
    for dtype in ("F32", "BF16", "F16")
    for name, shape in SHAPES.items()
]
ORDERS = (("--threads", "1"), ("--threads", "3"), ("--threads", "2", "--max-memory", "256M"))


class RedGate(Exception):
    """A result that makes measuring pointless: wrong, or dependent on how it was computed."""


def require_right_numbers(soupctl: Sequence[str], folder: Path) -> int:
    """The number of elements that were found right, over all weightings and orders; or RedGate."""
    paths = _write_ingredients(folder, max(map(len, WEIGHTS)))
    outs = [folder / f"gate-out-{index}.safetensors" for index in range(len(ORDERS))]
    try:
        for weights in WEIGHTS:
            inputs = paths[: len(weights)]
            expected = expected_average(inputs, weights)
            text = ",".join(map(str, weights))
            for out, order in zip(outs, ORDERS, strict=True):
                arguments = [*map(str, inputs), "-o", str(out), "-f", "-w", text, *order]
                _soupctl(soupctl, "avg", *arguments)
                _require_equal(out, expected, f"weights {text}, {' '.join(order)}")
            if len({sha256(out) for out in outs}) > 1:
                raise RedGate(f"weights {text}: the file depends on threads or memory")
    finally:
        for path in [*paths, *outs]:
            path.unlink(missing_ok=True)
    return len(WEIGHTS) * len(ORDERS) * sum(tensor.size for tensor, _ in LAYOUT)


def other_threads() -> str:
    """A number of threads that differs from the one soupctl takes by itself."""
    return "1" if (os.cpu_count() or 1) > 1 else "2"


def sha256(path: Path) -> str:
    """The hash of a whole file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(soupctl: Sequence[str], path: Path) -> str:
    """What soupctl says of the content of a file: equal for equal tensors, whatever the ledger."""
    answer = json.loads(_soupctl(soupctl, "hash", str(path), "--json"))
    (entry,) = answer["digests"]
    return str(entry["digest"])


def tensors_of(path: Path) -> Iterator[tuple[str, str, tuple[int, ...], bytes]]:
    """Name, dtype, shape and bytes of every tensor of a small file, as the format says."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + size])
    for name, entry in entries.items():
        if name != "__metadata__":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            yield name, entry["dtype"], tuple(entry["shape"]), content[start:end]


def tensors_described(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every tensor of a file of any size, by name."""
    with path.open("rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    del entries["__metadata__"]
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}


def expected_average(
    paths: Sequence[Path], weights: Sequence[int]
) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Dtype, shape and bytes of every tensor of the exact average, rounded once to nearest even."""
    inputs = [{name: data for name, _, _, data in tensors_of(path)} for path in paths]
    total = sum(weights)
    expected = {}
    for tensor, dtype in LAYOUT:
        rows = [_exact_values(data[tensor.name], dtype) for data in inputs]
        sums = (
            sum((w * x for w, x in zip(weights, column, strict=True)), start=Fraction(0))
            for column in zip(*rows, strict=True)
        )
        data = b"".join(rounded_bits(exact / total, dtype) for exact in sums)
        expected[tensor.name] = (dtype, tensor.shape, data)
    return expected


def rounded_bits(exact: Fraction, dtype: str) -> bytes:
    """The little-endian bytes of `exact` in `dtype`, to nearest even; an exact zero is +0."""
    precision, quantum = FORMATS[dtype]
    width = ITEM_BYTES[dtype]
    magnitude = abs(exact)
    if magnitude == 0:
        return bytes(width)
    # the quotient lies between the powers of two directly below and above the difference
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    step = max(exponent - precision + 1, quantum)
    # round() of a Fraction has ties to even
    count = round(magnitude / Fraction(2) ** step)
    # bit patterns are ordered like the values, so a carry needs no special case
    pattern = count + ((step - quantum) << (precision - 1))
    return (pattern | (int(exact < 0) << (8 * width - 1))).to_bytes(width, "little")


def _exact_values(data: bytes, dtype: str) -> list[Fraction]:
    if dtype == "BF16":
        wide = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        wide = np.frombuffer(data, np.float16 if dtype == "F16" else np.float32)
    return [Fraction(value) for value in wide.astype(np.float64).tolist()]


def _write_ingredients(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"gate-{index}.safetensors" for index in range(count)]
    for index, path in enumerate(paths):
        generator = np.random.default_rng(index)
        content = header(LAYOUT)
        for tensor, dtype in LAYOUT:
            if tensor.name.endswith("patterns"):
                content += _finite_patterns(generator, tensor.size, dtype).tobytes()
            else:
                values = generator.standard_normal(tensor.size) * 0.02
                content += encoded(values.astype(np.float32), dtype).tobytes()
        path.write_bytes(content)
    return paths


def _finite_patterns(
    generator: np.random.Generator, size: int, dtype: str
) -> npt.NDArray[np.unsignedinteger]:
    width = 8 * ITEM_BYTES[dtype]
    precision, _ = FORMATS[dtype]
    patterns = generator.integers(2**width, size=size, dtype=np.uint64)
    # the lowest exponent bit cleared: an exponent of all ones would not be finite
    patterns &= np.uint64(2**width - 1 - 2 ** (precision - 1))
    return patterns.astype(np.uint16 if width == 16 else np.uint32)


def _require_equal(
    out: Path, expected: dict[str, tuple[str, tuple[int, ...], bytes]], where: str
) -> None:
    found = {name: (dtype, shape, data) for name, dtype, shape, data in tensors_of(out)}
    if found.keys() != expected.keys():
        raise RedGate(f"{where}: tensors {sorted(found)}, not {sorted(expected)}")
    for name, (dtype, shape, data) in expected.items():
        if found[name][:2] != (dtype, shape) or len(found[name][2]) != len(data):
            raise RedGate(f"{where}: {name} is {found[name][:2]}, not {(dtype, shape)}")
        if found[name][2] != data:
            patterns = np.uint16 if ITEM_BYTES[dtype] == 2 else np.uint32
            wrong = np.frombuffer(found[name][2], patterns) != np.frombuffer(data, patterns)
            raise RedGate(f"{where}: {wrong.sum()} of {prod(shape)} elements of {name} are wrong")


def _soupctl(soupctl: Sequence[str], *arguments: str) -> str:
    done = subprocess.run([*soupctl, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = done.stderr.strip()[-2000:]
        raise RedGate(f"soupctl {arguments[0]} ended with {done.returncode}: {message}")
    return done.stdout
