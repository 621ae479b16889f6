"""Tensors of PyTorch as safetensors files, written as everything else is: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ..checkpoints.digest import Row, root_of, tensor_hasher
from ..format.dtypes import DType
from ..format.header import encode_header, lay_out
from ..ledger.ledger import UNKNOWN
from ..storage.files import write_at
from ..storage.partial import Staging

DTYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
    torch.int64: DType.I64,
    torch.int32: DType.I32,
    torch.int16: DType.I16,
    torch.int8: DType.I8,
    torch.uint8: DType.U8,
    torch.bool: DType.BOOL,
}

Describe = Callable[[str], Mapping[str, str]]
"""The metadata of a file whose tensors have a digest; as long for any other digest."""


def file_size(tensors: Mapping[str, torch.Tensor]) -> int:
    """About how many bytes a file of these tensors takes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def write_tensors(
    staging: Staging,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    describe: Describe = lambda digest: {},
    *,
    cast: torch.dtype | None = None,
) -> str:
    """The content digest of the tensors, which are written to a new file of that name.

    With `cast`, floats are rounded to that dtype on the way. Raises OutputError if there is no
    room.
    """
    kinds = {key: target(tensor, cast) for key, tensor in tensors.items()}
    layout = lay_out((key, DTYPES[kinds[key]], tuple(tensors[key].shape)) for key in tensors)
    header = encode_header(layout, describe(UNKNOWN))
    fd = staging.create(name, len(header) + (layout[-1].stop if layout else 0))
    rows: list[Row] = []
    for entry in layout:
        data = raw_bytes(tensors[entry.name].detach().to(kinds[entry.name]))
        hasher = tensor_hasher()
        hasher.update(data)
        rows.append((entry.name, entry.dtype.value, entry.shape, hasher.hexdigest()))
        write_at(fd, data, len(header) + entry.start)
    digest = root_of(rows)
    write_at(fd, encode_header(layout, describe(digest), len(header)), 0)
    staging.finish(fd)
    return digest


def target(tensor: torch.Tensor, cast: torch.dtype | None) -> torch.dtype:
    """The dtype that a tensor is written in if floats become `cast`."""
    return cast if cast is not None and tensor.is_floating_point() else tensor.dtype


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes as they are stored: row by row, on the CPU."""
    plain = tensor.detach().cpu().contiguous()
    # NumPy has no bfloat16, and a tensor without a dimension has no bytes to view
    return memoryview(plain.reshape(-1).view(torch.uint8).numpy())


def rounding_loss(
    trained: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor], cast: torch.dtype
) -> float:
    """How much of what training changed a dtype's rounding alters: |round(t) - t| / |t - b|."""
    lost = moved = 0.0
    for name, tensor in trained.items():
        if tensor.is_floating_point():
            wide = tensor.detach().double().cpu()
            lost += float((wide.to(cast).double() - wide).square().sum())
            moved += float((wide - base[name].double().cpu()).square().sum())
    return (lost / moved) ** 0.5 if moved else float("inf")
