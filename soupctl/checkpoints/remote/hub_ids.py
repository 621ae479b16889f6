"""Plain ids of the hub: OWNER/NAME without `hf://`, as a user may write it who asks for that.

Rule 1: what is a path on this disk is never an id.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...pattern import pattern

ID = pattern(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[^/]+)*(?:/.*)?", re.ASCII | re.DOTALL)
"""Matches what may name a repository of the hub, and a place in it."""
START = "hf://"


def is_hub_id(text: str) -> bool:
    """Whether a text may be OWNER/NAME[@REVISION][/PLACE]."""
    return ID.fullmatch(text) is not None


def on_hub(text: str, folder: str | Path = "") -> str:
    """The address on the hub that OWNER/NAME[@REVISION][/PLACE][@WEIGHT] means; a path as it is.

    Paths are relative to `folder`.
    """
    path, _, _ = text.rpartition("@")
    is_path = any(each and os.path.lexists(os.path.join(folder, each)) for each in (text, path))
    return text if is_path or not is_hub_id(text) else f"{START}{text}"
