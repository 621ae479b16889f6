"""Repositories of the Hugging Face Hub: files of one commit.

Rule 1: a branch or tag is resolved once; all reads are of the commit that it led to then.
Rule 2: a file in the hub's cache is read there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from .address import Address, HubAddress, hub_address
from .attempts import attempted, require_extra
from .listing import RemoteFiles
from .web import WebFile


def hub_listing(address: Address) -> RemoteFiles:
    """The files at an `hf://` address, by their names below it; raises those of `attempted`."""
    require_extra("hf", "huggingface_hub")
    place = hub_address(address)
    # imported late, because loading it takes time
    from huggingface_hub import hf_hub_url, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    if is_offline_mode():
        what = "cannot be read: HF_HUB_OFFLINE is set"
        raise InputError(
            what, path=place.shown, advice="unset it, or give a path in the hub's cache"
        )
    info = attempted(place.shown, lambda: _repository(place))
    pinned = replace(place, revision=info.sha)
    headers = {**build_hf_headers(), "accept-encoding": "identity"}
    files: dict[str, WebFile] = {}
    cached: dict[str, Path] = {}
    for each in info.siblings:
        name = _below(place.inside, each.rfilename)
        if name is None:
            continue
        shown = replace(place, inside=each.rfilename).shown
        hint = replace(pinned, inside=each.rfilename).shown
        url = hf_hub_url(place.repository, each.rfilename, revision=info.sha)
        files[name] = WebFile(url, shown, hint, each.size or 0, None, headers)
        found = try_to_load_from_cache(place.repository, each.rfilename, revision=info.sha)
        if isinstance(found, str):
            cached[name] = Path(found)
    if not files:
        raise InputError("cannot be read: there is no such file", path=place.shown)
    return RemoteFiles(place.shown, pinned.shown, files, cached)


def _repository(place: HubAddress) -> Any:
    from huggingface_hub import HfApi

    return HfApi().model_info(place.repository, revision=place.revision, files_metadata=True)


def _below(place: str, name: str) -> str | None:
    """The name of a file below a place, empty for the file itself; None for one elsewhere."""
    if not place:
        return name
    if name == place:
        return ""
    return name.removeprefix(f"{place}/") if name.startswith(f"{place}/") else None
