"""The libraries of the extra `train`, which no other command needs."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec

from ..errors import LimitError

LIBRARIES = ("PIL", "accelerate", "diffusers", "matplotlib", "torch", "transformers")


def require_extra() -> None:
    """Raise LimitError if a library of the extra `train` is missing, and keep the rest offline.

    It must be called before the first of them is imported.
    """
    # read once, when huggingface_hub is imported; soupctl never downloads anything
    os.environ["HF_HUB_OFFLINE"] = "1"
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        # these libraries recommend optional packages, which soupctl does not use
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    # matplotlib warns if it cannot write its font cache, which soupctl does not need
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        what = f"this needs packages that are not installed: {', '.join(missing)}"
        raise LimitError(what, advice="pip install 'soupctl[train]'")
