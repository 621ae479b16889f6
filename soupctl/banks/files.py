"""Prompt banks on disk: a folder with `adapter_config.json` and `adapter_model.safetensors`.

Rule 1: a folder is published whole or not at all; equal banks give equal bytes.
Rule 2: a folder may come from an attacker: config and header are compared before a tensor is
allocated, so no config allocates more memory than the file has bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.digest import root_of, tensor_hasher
from ..checkpoints.safetensors import SafetensorsFile, open_safetensors
from ..errors import InputError, Issue, SoupError
from ..format.dtypes import DType
from ..format.header import Tensor as HeaderTensor
from ..format.header import encode_header, lay_out
from ..storage.atomic import publish_folder
from ..storage.files import write_file
from .bank import PromptBank
from .config import BankConfig
from .config_json import encode_config
from .inspect import CONFIG, read_config

WEIGHTS = "adapter_model.safetensors"

# an average of banks can have another dtype than float32
DTYPES = {DType.F32: torch.float32, DType.F16: torch.float16, DType.BF16: torch.bfloat16}


def save_bank(
    bank: PromptBank,
    target: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    companion_files: Mapping[str, bytes] | None = None,
    replace: bool = False,
) -> None:
    """Write the bank, in float32, as the folder `target`, with `companion_files` by name.

    `metadata` goes into the header of the weights. With `replace`, an existing folder is replaced
    if it holds a bank and no files but those that are written. Raises OutputError.
    """
    files = {**(companion_files or {}), **bank_files(bank, metadata)}

    def may_replace(folder: Path) -> bool:
        return is_bank(folder) and {each.name for each in folder.iterdir()} <= files.keys()

    with publish_folder(target, replace=replace, may_replace=may_replace) as staging:
        for name, content in files.items():
            write_file(staging, name, content)


def bank_files(bank: PromptBank, metadata: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The contents of the two files of a bank, by name."""
    tensors = {name: _data(tensor) for name, tensor in bank.tensors().items()}
    layout = lay_out((name, DType.F32, bank.config.tensors[name]) for name in tensors)
    header = encode_header(layout, {"format": "pt", **(metadata or {})})
    weights = b"".join([header, *(tensors[each.name] for each in layout)])
    return {CONFIG: encode_config(bank.config), WEIGHTS: weights}


def bank_digest(bank: PromptBank) -> str:
    """The content digest of the bank's tensors, which `soupctl hash` prints for the saved bank."""
    rows = []
    for name, tensor in bank.tensors().items():
        hasher = tensor_hasher()
        hasher.update(_data(tensor))
        rows.append((name, DType.F32.value, bank.config.tensors[name], hasher.hexdigest()))
    return root_of(rows)


def _data(tensor: Tensor) -> bytes:
    """The bytes of a tensor in little-endian float32."""
    data: bytes = tensor.to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes()
    return data


def is_bank(folder: Path) -> bool:
    """Whether a folder holds the config of a prompt bank."""
    try:
        read_config(folder)
    except SoupError:
        return False
    return True


def load_bank(folder: Path) -> PromptBank:
    """The bank in a folder, on the CPU, in float32.

    Raises InputError if a file is missing or not valid, if the tensors are not those that the
    config describes, or if a number is not finite; OutputError if the file changes meanwhile.
    """
    config = read_config(folder)
    with open_safetensors(folder / WEIGHTS) as file:
        _require_described(config, file)
        with torch.device("meta"):
            bank = PromptBank(config)
        bank.to_empty(device="cpu")
        tensors = bank.tensors()
        for each in file.header.tensors:
            read = read_tensor(file, each, DTYPES[each.dtype])
            tensors[each.name].copy_(read)
            if not isfinite(read.double().abs().sum().item()):
                raise InputError("holds NaN or infinity", path=file.label, tensor=each.name)
        file.require_unchanged()
    return bank


def read_tensor(file: SafetensorsFile, tensor: HeaderTensor, dtype: torch.dtype) -> Tensor:
    """A tensor of an open file as a PyTorch tensor, which stays valid after the file is closed."""
    data = file.stored(tensor).read()
    return torch.frombuffer(data, dtype=dtype).reshape(tensor.shape)


def _require_described(config: BankConfig, file: SafetensorsFile) -> None:
    """Raise InputError, with all differences, if the tensors are not those of the config."""
    expected = dict(config.tensors)
    issues = []
    for each in file.header.tensors:
        shape = expected.pop(each.name, None)
        if shape is None:
            issues.append(Issue("is not in the bank's config", file.label, each.name))
        elif shape != each.shape:
            what = f"has shape {list(each.shape)}, but the bank's config says {list(shape)}"
            issues.append(Issue(what, file.label, each.name))
        elif each.dtype not in DTYPES:
            issues.append(
                Issue(f"has dtype {each.dtype.value}, not a float", file.label, each.name)
            )
    issues += [Issue("is missing", file.label, name) for name in expected]
    if issues:
        raise InputError.collected(issues)
