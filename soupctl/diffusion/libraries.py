"""The libraries that training needs, which soupctl does without elsewhere."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec

from ..errors import LimitError

LIBRARIES = ("PIL", "accelerate", "diffusers", "matplotlib", "torch", "transformers")


def require_extra() -> None:
    """Raise LimitError if a library of the extra `train` is missing; keep the others off the net.

    To be called before the first of them is imported.
    """
    # read once, when the hub's library is imported; nothing of a run is ever downloaded
    os.environ["HF_HUB_OFFLINE"] = "1"
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        # they tell of other libraries that they would like, and soupctl has no use for
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    # it warns of folders in which it cannot keep a list of fonts, and does without them
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        what = f"training needs {', '.join(missing)}, not installed here"
        raise LimitError(what, advice="pip install 'soupctl[train]'")
