"""Whether a new file in a checkpoint's folder would change which weights the folder has."""

from __future__ import annotations

from .layout import STEMS, SUFFIXES, Component

USUAL = frozenset(f"{stem}.safetensors" for stem in STEMS)
"""The names that libraries look for in a folder, which count before all others."""
USUAL_INDEXES = frozenset(f"{name}.index.json" for name in USUAL)


def displaces(name: str, component: Component) -> bool:
    """Whether a file of this name would change what is read of the folder of a component."""
    if name in USUAL:
        return True
    own = component.index_name or component.files[0].name
    # a folder without a usual name has to have exactly one file or index
    is_found_by_name = own in USUAL or own in USUAL_INDEXES
    is_seen = not name.startswith(".")
    return is_seen and not is_found_by_name and name.lower().endswith(SUFFIXES)
