"""The user's cache folder, for what can be made again from files of the user."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path | None:
    """The folder for the cached files of soupctl; None for a user without a home."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: a relative path is to be ignored
    if chosen.is_absolute():
        return chosen / "soupctl"
    try:
        return Path.home() / ".cache" / "soupctl"
    except RuntimeError:
        return None
