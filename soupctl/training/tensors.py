"""PyTorch tensors written to safetensors files, with their content digest."""

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

MakeMetadata = Callable[[str], Mapping[str, str]]
"""Makes the metadata of a file from its content digest, always of the same length."""


def file_size(tensors: Mapping[str, torch.Tensor]) -> int:
    """About how many bytes a file of these tensors takes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def write_tensors(
    staging: Staging,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    make_metadata: MakeMetadata = lambda digest: {},
    *,
    cast: torch.dtype | None = None,
) -> str:
    """Write the tensors to a new file `name`, and return their content digest.

    With `cast`, floating-point tensors are rounded to that dtype. Raises OutputError if the disk is
    full.
    """
    kinds = {key: saved_dtype(tensor, cast) for key, tensor in tensors.items()}
    layout = lay_out((key, DTYPES[kinds[key]], tuple(tensors[key].shape)) for key in tensors)
    header = encode_header(layout, make_metadata(UNKNOWN))
    fd = staging.create(name, len(header) + (layout[-1].stop if layout else 0))
    rows: list[Row] = []
    for entry in layout:
        data = raw_bytes(tensors[entry.name].detach().to(kinds[entry.name]))
        hasher = tensor_hasher()
        hasher.update(data)
        rows.append((entry.name, entry.dtype.value, entry.shape, hasher.hexdigest()))
        write_at(fd, data, len(header) + entry.start)
    digest = root_of(rows)
    write_at(fd, encode_header(layout, make_metadata(digest), len(header)), 0)
    staging.finish(fd)
    return digest


def saved_dtype(tensor: torch.Tensor, cast: torch.dtype | None) -> torch.dtype:
    """The dtype that a tensor is saved in, if floating-point tensors are rounded to `cast`."""
    return cast if cast is not None and tensor.is_floating_point() else tensor.dtype


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor as safetensors stores them: row-major, on the CPU."""
    plain = tensor.detach().cpu().contiguous()
    # NumPy has no bfloat16, and a tensor without dimensions cannot be viewed as bytes
    return memoryview(plain.reshape(-1).view(torch.uint8).numpy())


def rounding_loss(
    trained: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor], cast: torch.dtype
) -> float:
    """The rounding error of a dtype over the change by training: |round(t) - t| / |t - b|."""
    lost = moved = 0.0
    for name, tensor in trained.items():
        if tensor.is_floating_point():
            wide = tensor.detach().double().cpu()
            lost += float((wide.to(cast).double() - wide).square().sum())
            moved += float((wide - base[name].double().cpu()).square().sum())
    return (lost / moved) ** 0.5 if moved else float("inf")
