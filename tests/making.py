"""Small checkpoints for tests, and what is in those that were made; nothing of soupctl is used.

Rule 1: what tests are fed with and what they look at does not depend on what they test.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

Raw = tuple[str, tuple[int, ...], bytes]
"""Dtype by its name in a header, shape, and data."""


def save(path: Path, metadata: dict[str, str] | None = None, /, **arrays: Any) -> Path:
    """A checkpoint written by the safetensors library; its parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({k: np.asarray(v) for k, v in arrays.items()}, path, metadata)
    return path


def save_raw(path: Path, tensors: Mapping[str, Raw], pad: int = 0) -> Path:
    """A checkpoint whose data lie in the order of `tensors`, after a header of any length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries, end = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": (end, end + len(data)),
        }
        end += len(data)
    header = json.dumps(entries).encode() + b" " * pad
    data = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def save_shards(folder: Path, stem: str, *shards: dict[str, Any]) -> Path:
    """A sharded checkpoint with its index, as the libraries write it."""
    weight_map = {}
    for number, arrays in enumerate(shards, 1):
        name = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        save(folder / name, {"format": "pt"}, **arrays)
        weight_map |= dict.fromkeys(arrays, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    return folder


def save_pipeline(folder: Path, seed: int, variant: str = "", **config: Any) -> Path:
    """A pipeline of a unet, a vae and a sharded text encoder, with its configs and tokenizer."""
    random = np.random.default_rng(seed)

    def values(*shape: int) -> Any:
        return random.normal(0, 1, shape).astype(np.float16)

    marked = f"diffusion_pytorch_model{variant}.safetensors"
    save(folder / "unet" / marked, {"format": "pt"}, **{"conv_in.weight": values(4, 4, 3, 3)})
    save(folder / "vae" / marked, {"format": "pt"}, **{"quant_conv.weight": values(8, 8)})
    encoder = folder / "text_encoder"
    save_shards(encoder, "model", {"embedding": values(9, 4)}, {"norm": values(4)})
    (folder / "tokenizer").mkdir()
    (folder / "scheduler").mkdir()
    for name, text in {
        "unet/config.json": {"in_channels": 4, "_diffusers_version": f"0.{seed}", **config},
        "vae/config.json": {"scaling_factor": 0.18215},
        "text_encoder/config.json": {"hidden_size": 4},
        "scheduler/scheduler_config.json": {"steps": 1000},
        "tokenizer/vocab.json": {"a": 0},
        "model_index.json": {
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDIMScheduler"],
        },
    }.items():
        (folder / name).write_text(json.dumps(text))
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle, never opened")
    (folder / "pipeline.py").write_text("raise SystemExit")
    return folder


def header(path: Path) -> dict[str, Any]:
    """The header of a checkpoint, as JSON."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    found: dict[str, Any] = json.loads(raw[8 : 8 + size])
    return found


def contents(path: Path) -> dict[str, Raw]:
    """The tensors of a checkpoint by name."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    data = raw[8 + size :]
    return {
        name: (entry["dtype"], tuple(entry["shape"]), data[slice(*entry["data_offsets"])])
        for name, entry in header(path).items()
        if name != "__metadata__"
    }


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a checkpoint."""
    found: dict[str, str] = header(path).get("__metadata__", {})
    return found


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones included, by their relative names."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def mean(arrays: list[Any], weights: list[Fraction | int], dtype: Any = None) -> Any:
    """The exact mean of arrays, rounded once to nearest even."""
    kind = np.dtype(dtype or np.result_type(*arrays)).type
    out = np.empty(np.shape(arrays[0]), kind)
    for place in np.ndindex(out.shape):
        terms = zip(weights, arrays, strict=True)
        total = sum(weight * Fraction(float(array[place])) for weight, array in terms)
        out[place] = _nearest(total / sum(weights), kind)
    return out


def _nearest(value: Fraction, kind: Any) -> Any:
    """The value of a numpy float type that is nearest, of two the even one."""
    about = kind(float(value))
    near = [np.nextafter(about, kind(-np.inf)), about, np.nextafter(about, kind(np.inf))]
    bits = np.dtype(f"u{np.dtype(kind).itemsize}")
    best = min(near, key=lambda each: (abs(Fraction(float(each)) - value), each.view(bits) & 1))
    return best if value else kind(0)
