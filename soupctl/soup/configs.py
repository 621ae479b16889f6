"""Whether two files that lie beside weights say the same thing.

Rule 1: version, path and dtype fields of a JSON config may differ (a soup decides its own dtype);
everything else is part of the model.
Rule 2: prose (model cards, licences) may differ; the first ingredient's is kept.
"""

from __future__ import annotations

import json
from pathlib import PurePath

HARMLESS_FIELDS = frozenset(
    (
        "_diffusers_version",
        "transformers_version",
        "_name_or_path",
        "_commit_hash",
        "torch_dtype",
        "dtype",
    )
)

PROSE = frozenset(
    (".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".pdf", ".gitattributes", ".gitignore")
)

CODE = frozenset((".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".exe", ".ipynb"))

WEIGHTS = frozenset(
    (".safetensors", ".st", ".sft", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
) | frozenset(
    (".npz", ".npy", ".msgpack", ".h5", ".onnx", ".onnx_data", ".gguf", ".pb", ".tflite", ".sum")
)


def is_copied(name: str) -> bool:
    """Whether a file beside the weights goes along into the output: neither weights nor code."""
    path = PurePath(name.lower())
    if name.lower().endswith(".safetensors.index.json") or ".safetensors.index." in name.lower():
        return False
    return path.suffix not in CODE | WEIGHTS and ".bin.index." not in name.lower()


def same_config(name: str, first: bytes, other: bytes) -> bool:
    """Whether two files called `name` say the same, but for harmless fields and prose."""
    path = PurePath(name.lower())
    if (
        first == other
        or path.suffix in PROSE
        or path.name in PROSE
        or path.stem in ("license", "notice")
    ):
        return True
    if path.suffix != ".json":
        return False
    try:
        return bool(_essence(json.loads(first)) == _essence(json.loads(other)))
    except (ValueError, RecursionError):
        return False


def _essence(value: object) -> object:
    """The JSON value without its harmless fields, at every depth."""
    if isinstance(value, dict):
        return {key: _essence(item) for key, item in value.items() if key not in HARMLESS_FIELDS}
    if isinstance(value, list):
        return [_essence(item) for item in value]
    return value
