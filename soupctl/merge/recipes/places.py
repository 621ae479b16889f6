"""Where the inputs of a recipe are: at paths relative to its folder, or at addresses."""

from __future__ import annotations

from pathlib import Path

from ...checkpoints.remote.address import address_of
from ...checkpoints.remote.hub_ids import on_hub


def input_place(text: str, folder: Path, *, hub: bool) -> str:
    """The path or address of an input that a recipe in `folder` names.

    With `hub`, OWNER/NAME is a repository of the hub where there is no such path. Raises UsageError
    for an address that is not encrypted, or names no place.
    """
    text = on_hub(text, folder) if hub else text
    return str(folder / text) if address_of(text) is None else text
