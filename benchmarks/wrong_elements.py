"""How many elements of one checkpoint differ from those of another, whatever its shards.

Rule 1: elements are compared bit by bit; both checkpoints must have the same tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from checkpoints import ITEM_BYTES

Patterns = npt.NDArray[np.unsignedinteger]


def wrong_elements(exact: Path, other: Path) -> tuple[int, int]:
    """The number of elements of `other` that differ from those of `exact`, and of all elements.

    Each is a file or a folder of files. ValueError if their tensors differ in name or size.
    """
    expected, found = dict(_tensors(exact)), dict(_tensors(other))
    sizes = [{name: data.nbytes for name, data in each.items()} for each in (expected, found)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"{other.name} has other tensors than {exact.name}")
    wrong = sum(int(np.count_nonzero(data != found[name])) for name, data in expected.items())
    return wrong, sum(data.size for data in expected.values())


def _tensors(path: Path) -> Iterator[tuple[str, Patterns]]:
    """The name and bit patterns of each tensor, which stay in the file until they are looked at."""
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        content = np.memmap(file, np.uint8, mode="r")
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        for name, entry in json.loads(content[8:start].tobytes()).items():
            if name != "__metadata__":
                begin, end = (start + offset for offset in entry["data_offsets"])
                patterns = f"u{ITEM_BYTES[entry['dtype']]}"
                yield name, np.frombuffer(content[begin:end].data, patterns)
