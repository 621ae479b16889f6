"""How tensors are spread over files, under the names that the libraries look for.

Rule 1: pure and deterministic; the same entries always make the same files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from ..errors import LimitError
from ..frozen import frozen
from .dtypes import DType
from .header import Tensor, lay_out

TensorSpec = tuple[str, DType, tuple[int, ...]]
"""Name, dtype and shape of a tensor."""

MOST_SHARDS = 512
"""All files of an output are open at once, so their number is bounded."""


@frozen
class OutputFile:
    """One safetensors file to be written: its name within its folder, and its tensors in place."""

    name: str
    tensors: tuple[Tensor, ...]


def index_name(stem: str) -> str:
    """The name of the index of a checkpoint with files named `stem`-..."""
    return f"{stem}.safetensors.index.json"


def split(entries: Sequence[TensorSpec], size: int, stem: str) -> tuple[OutputFile, ...]:
    """Files of at most `size` bytes of data, filled by name; a larger tensor is alone.

    One file `stem.safetensors` if all fit, else `stem-00001-of-00002.safetensors` and so on.
    Raises LimitError if that makes more than 512 files.
    """
    shards: list[list[TensorSpec]] = [[]]
    room = size
    for entry in sorted(entries, key=lambda entry: entry[0]):
        need = prod(entry[2]) * entry[1].bits // 8
        if need > room and shards[-1]:
            shards.append([])
            room = size
        shards[-1].append(entry)
        room -= need
    if len(shards) > MOST_SHARDS:
        raise LimitError(
            f"--shard-size {size} makes {len(shards)} files; at most {MOST_SHARDS} are written",
            advice="choose a larger size",
        )
    if len(shards) == 1:
        return (OutputFile(f"{stem}.safetensors", lay_out(shards[0])),)
    return tuple(
        OutputFile(f"{stem}-{number:05}-of-{len(shards):05}.safetensors", lay_out(shard))
        for number, shard in enumerate(shards, 1)
    )


def same_files(entries: Iterable[TensorSpec], file_of: Mapping[str, str]) -> tuple[OutputFile, ...]:
    """The entries in the files that `file_of` names for them; files that get none are left out.

    Raises LimitError if that makes more than 512 files.
    """
    files: dict[str, list[TensorSpec]] = {}
    for entry in entries:
        files.setdefault(file_of[entry[0]], []).append(entry)
    if len(files) > MOST_SHARDS:
        raise LimitError(
            f"as many files as the first ingredient's are {len(files)}; at most {MOST_SHARDS} are"
            " written",
            advice="--shard-size makes fewer",
        )
    return tuple(OutputFile(name, lay_out(files[name])) for name in sorted(files))
