"""Classifies the companion files of weights, and compares configs.

Rule 1: fields of a JSON config may differ that say its version, its dtype (a soup decides its own)
or where it was loaded from; everything else is part of the model.
Rule 2: prose (model cards, licences) may differ; the first ingredient's is kept.
Rule 3: files that configure a model are recognised by name; any other file is a record of how the
model was made, and may differ.
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import PurePath

HARMLESS_FIELDS = frozenset(
    (
        "_diffusers_version",
        "transformers_version",
        "_name_or_path",
        "_commit_hash",
        "torch_dtype",
        "dtype",
        # in a tokenizer_config.json: that, and how, the tokenizer was loaded before it was saved
        "name_or_path",
        "is_local",
        "local_files_only",
        "special_tokens_map_file",
        "tokenizer_file",
        # in an adapter_config.json: where its base was, and what made a prompt bank
        "base_model_name_or_path",
        "soupctl_version",
    )
)

PROSE = frozenset(
    (".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".pdf", ".gitattributes", ".gitignore")
)

CODE = frozenset((".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".exe", ".ipynb"))

WEIGHTS = frozenset(
    (
        *(".safetensors", ".st", ".sft", ".sum"),
        *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npz", ".npy", ".msgpack"),
        *(".h5", ".onnx", ".onnx_data", ".pb", ".tflite", ".gguf", ".flashpack"),
    )
)

CONFIGS = (
    # the model, its scheduler, generation, adapter, processor and tokenizer
    *("config.json", "*_config.json", "config_*.json", "model_index.json", "modules.json"),
    *("tokenizer.json", "added_tokens.json", "special_tokens_map.json", "normalizer.json"),
    *("vocab.*", "vocab-*.json", "merges.txt", "bpe.codes"),
    *("*.model", "*.spm", "*.tiktoken", "tekken.json"),
    *("chat_template.*", "*.jinja"),
)
"""Names, in small letters, under which the libraries look for what configures a model."""

# an index names the files of other weights than the output's
INDEX = re.compile(r"\.(safetensors|bin)\.(.+\.)?index\.(.+\.)?json$")


def is_copied(name: str) -> bool:
    """Whether a companion file is copied to the output: it is neither weights nor code."""
    path = PurePath(name.lower())
    return path.suffix not in CODE | WEIGHTS and not is_index(name)


def is_config(name: str) -> bool:
    """Whether a companion file configures the model."""
    own = PurePath(name.lower()).name
    return is_copied(name) and any(fnmatchcase(own, pattern) for pattern in CONFIGS)


def is_prose(name: str) -> bool:
    """Whether a file is prose for people, which may differ."""
    path = PurePath(name.lower())
    return path.suffix in PROSE or path.name in PROSE or path.stem in ("license", "notice")


def is_index(name: str) -> bool:
    """Whether a file is an index of sharded weights."""
    return INDEX.search(PurePath(name.lower()).name) is not None


def different_fields(name: str, first: bytes, other: bytes) -> tuple[str, ...]:
    """The fields in which two JSON objects differ, or `contents` for other differences."""
    if first == other or is_prose(name):
        return ()
    if not name.lower().endswith(".json"):
        return CONTENTS
    try:
        one, two = _essence(json.loads(first)), _essence(json.loads(other))
    except (ValueError, RecursionError):
        return CONTENTS
    if not (isinstance(one, dict) and isinstance(two, dict)):
        return () if _canonical(one) == _canonical(two) else CONTENTS
    return tuple(
        field
        for field in sorted(one.keys() | two.keys())
        if field not in one or field not in two or _canonical(one[field]) != _canonical(two[field])
    )


CONTENTS = ("contents",)


def _canonical(value: object) -> str:
    """A text that is equal for equal JSON values only; in Python, 1 and true are equal."""
    return json.dumps(value, sort_keys=True)


def _essence(value: object) -> object:
    """The JSON value without its harmless fields, at every depth."""
    if isinstance(value, dict):
        return {key: _essence(item) for key, item in value.items() if key not in HARMLESS_FIELDS}
    if isinstance(value, list):
        return [_essence(item) for item in value]
    return value
