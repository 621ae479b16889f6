"""Which of several sets of weights in one folder is read: the one that its library reads.

Rule 1: transformers looks for a single file first, and diffusers for an index.
Rule 2: the config says which library a folder is of; without one, the user must choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, UnreadableError
from ..pattern import pattern
from ..storage.files import read_json
from .listing import CONFIG

# the variant comes after `index`, or before it, as diffusers wrote it until 2024
INDEX = pattern(r"\.safetensors\.(.+\.)?index\.(.+\.)?json$")

DIFFUSERS = "diffusion_pytorch_model"
TRANSFORMERS = "model"
FIELDS = {"_class_name": DIFFUSERS, "architectures": TRANSFORMERS, "model_type": TRANSFORMERS}
"""The names of weights files of the library that writes a field into configs."""
LIBRARIES = {DIFFUSERS: "diffusers", TRANSFORMERS: "transformers"}


def preferred(found: Sequence[str], folder: Path) -> str | None:
    """The set of weights among several that the folder's library reads; None if that is unclear.

    `found` are single files and indexes, as the libraries name them, in the order of their looking.
    """
    stems = {stem_of(name) for name in found}
    if len(stems) > 1:
        stem = _stem_by_config(folder)
        if stem not in stems or "adapter_model" in stems:
            return None
    else:
        (stem,) = stems
    own = [name for name in found if stem_of(name) == stem]
    wants_index = stem == DIFFUSERS
    fitting = (name for name in own if (INDEX.search(name) is not None) is wants_index)
    return next(fitting, own[0])


def stem_of(name: str) -> str:
    """The first part of the name of a weights file or an index."""
    return name.partition(".")[0]


def library_of(name: str) -> str:
    """The library that reads files of a name, for messages."""
    return LIBRARIES.get(stem_of(name), "PEFT and diffusers")


def _stem_by_config(folder: Path) -> str | None:
    """The stem of the weights that a folder's config belongs to."""
    try:
        config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    except UnreadableError:
        raise
    except InputError:
        # a malformed config is refused elsewhere
        return None
    return next((stem for field, stem in FIELDS.items() if field in config), None)
