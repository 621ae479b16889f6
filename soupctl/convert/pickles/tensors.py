"""The tensors of a checkpoint that torch has saved, as ranges of its file.

Rule 1: every offset, shape and stride is checked against the file before anything is read.
Rule 2: a tensor that does not lie in the file in its own order is copied to an unnamed file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.layout import Component
from ...checkpoints.safetensors import SafetensorsFile
from ...errors import InputError, OutputError, UsageError
from ...format.dtypes import DType
from ...format.header import METADATA, Header, Tensor, bits_of
from ...frozen import frozen
from ...storage.reader import FileReader
from ...storage.regular import open_regular, read_at
from .archive import ArchiveMember, members_of
from .machine import PickledStorage, PickledTensor, PickleProblem, load

LARGEST_PICKLE = 100_000_000
USUAL_ENTRY = "state_dict"
MOST_SHARING = 8
"""How many times its own size the tensors of a file may have: some share their storage."""
KINDS: Mapping[str, DType] = {
    "DoubleStorage": DType.F64,
    "FloatStorage": DType.F32,
    "HalfStorage": DType.F16,
    "BFloat16Storage": DType.BF16,
    "LongStorage": DType.I64,
    "IntStorage": DType.I32,
    "ShortStorage": DType.I16,
    "CharStorage": DType.I8,
    "ByteStorage": DType.U8,
    "BoolStorage": DType.BOOL,
    "Float8_e4m3fnStorage": DType.F8_E4M3,
    "Float8_e5m2Storage": DType.F8_E5M2,
}
NAMED: Mapping[str, DType] = {
    "float64": DType.F64,
    "float32": DType.F32,
    "float16": DType.F16,
    "bfloat16": DType.BF16,
    "int64": DType.I64,
    "int32": DType.I32,
    "int16": DType.I16,
    "int8": DType.I8,
    "uint8": DType.U8,
    "bool": DType.BOOL,
    "float8_e4m3fn": DType.F8_E4M3,
    "float8_e5m2": DType.F8_E5M2,
}


@frozen
class SpreadTensor:
    """A tensor whose elements lie in another order than its own."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    """Where its first element is in the file."""

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.dtype.bits // 8


@contextmanager
def open_pickle(path: Path, label: str, entry: str | None) -> Iterator[Checkpoint]:
    """The tensors of a checkpoint that torch has saved; `entry` names the dict that holds them.

    Raises InputError for what is not such a checkpoint, and UsageError for an entry that it does
    not have, or where one must be chosen.
    """
    with Checkpoint(Component("", label, (path,)), pickled_files(path, label, entry)) as checkpoint:
        yield checkpoint


def pickled_files(path: Path, label: str, entry: str | None) -> tuple[SafetensorsFile, ...]:
    """The tensors of such a checkpoint, open: those in their own order, and copies of the others.

    Raises the errors of `open_pickle`.
    """
    with ExitStack() as stack:
        fd, state = stack.enter_context(open_regular(path, label))
        members = members_of(path, label)
        value = _value(fd, members, label)
        chosen = _entry(value, entry, label)
        plain, spread = _tensors(chosen, members, label)
        total = sum(each.size for each in plain) + sum(each.size for each in spread)
        if total > MOST_SHARING * state.st_size + (1 << 20):
            raise InputError("its tensors share storages too often to be real", path=label)
        reader = FileReader.of_open(fd, path, label)
        plain.sort(key=lambda each: (each.start, each.name))
        files = [SafetensorsFile(path, label, Header(tuple(plain), {}, 0), reader.identity, reader)]
        if spread:
            files.append(_copied(fd, spread, label))
        return tuple(files)


def _value(fd: int, members: Mapping[str, ArchiveMember], label: str) -> Any:
    names = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(names) != 1:
        raise InputError("is a zip archive, but not of a checkpoint that torch saved", path=label)
    folder = names[0].removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order is not None and os.pread(fd, min(order.size, 16), order.start) != b"little":
        raise InputError("was saved on a machine with another order of bytes", path=label)
    pickle = members[names[0]]
    if pickle.size > LARGEST_PICKLE:
        what = f"its pickle has {pickle.size} bytes, and that of a checkpoint fewer"
        raise InputError(what, path=label)
    try:
        return load(os.pread(fd, pickle.size, pickle.start))
    except PickleProblem as problem:
        raise InputError(f"its pickle {problem}", path=label) from None


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(x, PickledTensor) for x in value.values())


def _entry(value: Any, entry: str | None, label: str) -> dict[str, Any]:
    """The dict of tensors in the value of a pickle."""
    if isinstance(value, dict) and entry is not None:
        for part in entry.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not _holds_tensors(value):
            raise UsageError(f"--entry {entry!r} holds no tensors", path=label)
        return dict(value)
    if not isinstance(value, dict):
        raise InputError("holds no dict of tensors", path=label)
    if _holds_tensors(value):
        return value
    found = {str(name): each for name, each in value.items() if _holds_tensors(each)}
    if USUAL_ENTRY in found or len(found) == 1:
        return dict(found.get(USUAL_ENTRY) or next(iter(found.values())))
    if not found:
        raise InputError("holds no dict of tensors", path=label)
    what = f"has tensors in {', '.join(sorted(found))}"
    raise UsageError(what, path=label, advice="--entry NAME chooses one")


def _tensors(
    chosen: Mapping[str, Any], members: Mapping[str, ArchiveMember], label: str
) -> tuple[list[Tensor], list[SpreadTensor]]:
    """The tensors of a dict: those in their own order, and the others."""
    storages = {name.rpartition("/data/")[2]: m for name, m in members.items() if "/data/" in name}
    plain: list[Tensor] = []
    spread: list[SpreadTensor] = []
    for name, value in chosen.items():
        if not isinstance(value, PickledTensor):
            continue
        if name == METADATA:
            raise InputError("is not a name that a tensor can have", path=label, tensor=name)
        found = _placed(str(name), value, storages, label)
        if isinstance(found, Tensor):
            plain.append(found)
        else:
            spread.append(found)
    return plain, spread


def _placed(
    name: str, value: PickledTensor, storages: Mapping[str, ArchiveMember], label: str
) -> Tensor | SpreadTensor:
    """A tensor with its place in the file; InputError if it does not lie within its storage."""
    storage = value.storage
    if not isinstance(storage, PickledStorage) or not isinstance(storage.key, str):
        raise InputError("has no storage", path=label, tensor=name)
    kind = storage.kind.rpartition(".")[2]
    dtype = KINDS.get(kind) if value.dtype is None else NAMED.get(value.dtype)
    if dtype is None:
        what = f"is a tensor of {value.dtype or kind}, which is not read"
        raise InputError(what, path=label, tensor=name)
    member = storages.get(storage.key)
    width = dtype.bits // 8
    numbers = (value.offset, *_numbers(value.shape), *_numbers(value.strides))
    is_sound = (
        member is not None
        and all(type(each) is int and each >= 0 for each in numbers)
        and isinstance(value.shape, tuple)
        and isinstance(value.strides, tuple)
        and len(value.shape) == len(value.strides)
    )
    if not is_sound or member is None:
        raise InputError("is not described soundly", path=label, tensor=name)
    shape, strides = value.shape, value.strides
    count = prod(shape)
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if not count and bits_of(shape, dtype) is None:
        raise InputError("has a size that does not fit in 64 bits", path=label, tensor=name)
    if count and (value.offset + last + 1) * width > member.size:
        raise InputError("lies outside of its storage", path=label, tensor=name)
    start = member.start + value.offset * width
    if not count or _is_in_order(shape, strides):
        return Tensor(name, dtype, shape, start, start + count * width)
    if count * width > member.size:
        raise InputError("repeats its elements", path=label, tensor=name)
    return SpreadTensor(name, dtype, shape, strides, start)


def _numbers(value: object) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (None,)


def _is_in_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _copied(fd: int, spread: list[SpreadTensor], label: str) -> SafetensorsFile:
    """The other tensors in their own order, in an unnamed file."""
    import numpy as np

    tensors: list[Tensor] = []
    end = 0
    with tempfile.TemporaryFile() as file:
        for each in spread:
            width = each.dtype.bits // 8
            reach = sum((n - 1) * s for n, s in zip(each.shape, each.strides, strict=True)) + 1
            data = read_at(fd, reach * width, each.start)
            if len(data) < reach * width:
                raise OutputError("changed while it was read", path=label)
            raw = np.frombuffer(data, f"<u{width}")
            # numpy takes 64 dimensions, and no stride beyond the memory
            longer = [d for d in zip(each.shape, each.strides, strict=True) if d[0] > 1]
            shape, steps = [n for n, _ in longer], [stride * width for _, stride in longer]
            view = np.lib.stride_tricks.as_strided(raw, shape, steps, writeable=False)
            file.write(np.ascontiguousarray(view).data)
            tensors.append(Tensor(each.name, each.dtype, each.shape, end, end + each.size))
            end += each.size
        file.flush()
        reader = FileReader.of_unnamed(os.dup(file.fileno()), label)
    return SafetensorsFile(Path(label), label, Header(tuple(tensors), {}, 0), None, reader)
