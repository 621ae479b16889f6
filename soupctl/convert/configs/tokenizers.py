"""The tokenizers of a new pipeline, from a folder that has them without being a pipeline.

Rule 1: encoders of OpenCLIP were trained with captions padded with `!`, those of OpenAI with their
end token, so a tokenizer that serves both is told which.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...checkpoints.unchanged import FileSnapshot
from ...errors import InputError
from ...format.strict_json import decode, parse_config
from ...storage.files import read_file

CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
WHOLE = "tokenizer.json"
VOCABULARY = "vocab.json"
FILES = (CONFIG, WHOLE, VOCABULARY, "merges.txt", "spiece.model", SPECIAL, "added_tokens.json")
"""The files of a tokenizer that transformers saves."""
NAMED = (WHOLE, VOCABULARY, "spiece.model")
"""Files of which each tokenizer has one."""
OPEN_CLIP_PADDING = "!"

Files = list[tuple[str, bytes]]


def has_tokenizers(folder: Path) -> bool:
    """Whether a folder is a tokenizer, or has one in a subfolder `tokenizer`."""
    return _is_tokenizer(folder) or _is_tokenizer(folder / "tokenizer")


def tokenizer_files(
    folder: Path, wanted: Mapping[str, str], open_clip: Collection[str]
) -> tuple[Files, list[FileSnapshot]]:
    """The files of tokenizers, by their names in a new pipeline, and snapshots of what was read.

    `wanted` are the classes of the pipeline's tokenizers by component, and `open_clip` those of
    them whose encoders are from OpenCLIP. A folder that is one tokenizer serves for all of CLIP.
    Raises InputError if one is missing.
    """
    found: Files = []
    seen: list[FileSnapshot] = []
    for name, kind in wanted.items():
        place = folder / name
        is_shared = not _is_tokenizer(place) and _is_tokenizer(folder) and "CLIP" in kind
        place = folder if is_shared else place
        if not _is_tokenizer(place):
            what = f"has no tokenizer in {name}, which this model needs"
            raise InputError(what, path=folder, advice=f"put its files there, such as {WHOLE}")
        seen += [FileSnapshot.take(place / each) for each in _present(place)]
        own = {each: read_file(place / each) for each in _present(place)}
        if is_shared and name in open_clip:
            own = _padded(own, place)
        found += [(f"{name}/{each}", content) for each, content in own.items()]
    return found, seen


def _present(folder: Path) -> Iterator[str]:
    return (each for each in FILES if (folder / each).is_file())


def _is_tokenizer(folder: Path) -> bool:
    return any((folder / each).is_file() for each in NAMED)


def _padded(files: dict[str, bytes], place: Path) -> dict[str, bytes]:
    """The files of a tokenizer that pads like OpenCLIP, if it has that token."""
    try:
        read = {name: parse_config(decode(files[name])) for name in files if name.endswith("json")}
    except ValueError as error:
        raise InputError(f"is not a valid tokenizer: {error}", path=place) from None
    model: Any = read.get(WHOLE, {}).get("model")
    whole = model.get("vocab") if isinstance(model, dict) else None
    vocabulary = read.get(VOCABULARY) or whole
    if not isinstance(vocabulary, dict) or OPEN_CLIP_PADDING not in vocabulary:
        return files
    config = {**read.get(CONFIG, {}), "pad_token": OPEN_CLIP_PADDING}
    kept = {name: content for name, content in files.items() if name != SPECIAL}
    return {**kept, CONFIG: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()}
