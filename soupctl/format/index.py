"""The index of a sharded checkpoint (`*.safetensors.index.json`) as a value.

Rule 1: bytes in, values out; nothing in this file opens anything.
Rule 2: an index cannot name a file outside its folder. The check is lexical, so that it has no
race, and the hub cache, whose files are links to elsewhere, is read like any other folder.
Rule 3: oddities that transformers and diffusers accept are read as they read them: no metadata, a
wrong total size, further keys, and names such as `./model.safetensors`.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping

from ..errors import InputError
from ..frozen import frozen
from .strict_json import decode, parse_object


@frozen
class Index:
    """The shard of each tensor, as a path relative to the index, and the index's metadata."""

    weight_map: Mapping[str, str]
    metadata: Mapping[str, object]


def is_inside(name: str) -> bool:
    """Whether a relative path stays inside its folder, judged by its text alone."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def parse_index(text: bytes, path: str) -> Index:
    """The index in `text`; InputError if it is malformed or names a file outside its folder."""
    try:
        content = parse_object(decode(text))
    except ValueError as error:
        raise InputError(f"is not a valid index: {error}", path=path) from None
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError("is not a valid index: it has no weight_map of names", path=path)
    metadata = content.get("metadata")
    if not isinstance(metadata, dict | None):
        raise InputError("is not a valid index: its metadata is not an object", path=path)
    files: dict[str, str] = {}
    for tensor, file in weight_map.items():
        name = _plain(file) if isinstance(file, str) else ""
        if not is_inside(name):
            problem = f"{reprlib.repr(file)} is not the name of a file in this folder"
            raise InputError(problem, path=path, tensor=tensor)
        files[tensor] = name
    return Index(files, metadata or {})


def _plain(name: str) -> str:
    """A relative path in normal form: `a/b` for `./a//b`."""
    if name.startswith("/") or name.endswith(("/", "/.")):
        return name
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def encode_index(weight_map: Mapping[str, str], metadata: Mapping[str, object]) -> bytes:
    """The index as Hugging Face's libraries write it: keys sorted, two spaces, a final newline."""
    content = {"metadata": metadata, "weight_map": weight_map}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode("utf-8")
