"""Classifies the companion files of weights by their names.

Rule 1: prose (model cards, licences) may differ; the first ingredient's is kept.
Rule 2: files that configure a model are recognised by name; any other file is a record of how the
model was made, and may differ.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePath

from ..pattern import pattern

PROSE = frozenset(
    (".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".pdf", ".gitattributes", ".gitignore")
)

CODE = frozenset((".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".exe", ".ipynb"))

COPIED = frozenset(
    (
        *(
            ".json",
            ".jsonl",
            ".txt",
            ".yaml",
            ".yml",
            ".toml",
            ".ini",
            ".cfg",
            ".csv",
            ".tsv",
            ".log",
        ),
        *(".model", ".spm", ".tiktoken", ".jinja", ".bpe", ".codes", ".vocab", ".dict"),
    )
)
"""Endings of text files and tokenizer models, which are copied; other files are left behind."""

PLAIN_NAMES = frozenset(("readme", "authors", "citation", "changelog", "copying", "use_policy"))
"""Lowercase names without a suffix that are text for people."""

WEIGHTS = frozenset(
    (
        *(".safetensors", ".st", ".sft", ".sum"),
        *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npz", ".npy", ".msgpack"),
        *(".h5", ".onnx", ".onnx_data", ".pb", ".tflite", ".gguf", ".flashpack", ".distcp"),
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
"""Lowercase names of files that libraries read to configure a model."""

# an index lists the weights of the input, not those of the output
INDEX = pattern(r"\.(safetensors|bin)\.(.+\.)?index\.(.+\.)?json$")


def is_copied(name: str) -> bool:
    """Whether a companion file is copied to the output: text, pictures, tokenizers; never code."""
    path = PurePath(name.lower())
    if path.suffix in CODE | WEIGHTS or is_index(name):
        return False
    return path.suffix in COPIED or is_prose(name) or path.name in PLAIN_NAMES


def is_weights(name: str) -> bool:
    """Whether a file holds weights, in any format, by the ending of its name."""
    return PurePath(name.lower()).suffix in WEIGHTS


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
