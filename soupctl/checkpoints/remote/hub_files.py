"""Repositories of the Hugging Face Hub: files of one commit.

Rule 1: a branch or tag is resolved once; all reads are of the commit that it led to then.
Rule 2: a file in the hub's cache is read there.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ...errors import InputError, UsageError
from ...format.index import is_inside
from .address import Address, HubAddress, hub_address
from .attempts import READING, Purpose, RefusedError, attempted, require_extra
from .listing import RemoteFiles
from .redirects import HubTarget
from .web import PLAIN, WebFile

COMMIT = re.compile(r"[0-9a-f]{40,64}")
LONE = re.compile(r"[\ud800-\udfff]")
"""Matches what no text in UTF-8 holds."""
LARGEST = 10**18
"""Bytes; no file has so many."""
MALFORMED = "the hub's answer is malformed"


def hub_listing(address: Address) -> RemoteFiles:
    """The files at an `hf://` address, by their names below it; raises those of `attempted`."""
    require_extra("hf", "huggingface_hub")
    place = hub_address(address)
    # imported late, because loading it takes time
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    require_online(place)
    commit, sizes = attempted(place.shown, lambda: repository_at(place))
    pinned = replace(place, revision=commit)
    headers = {**build_hf_headers(), **PLAIN}
    files: dict[str, WebFile] = {}
    cached: dict[str, Path] = {}
    for path, size in sizes.items():
        name = _below(place.inside, path)
        if name is None:
            continue
        shown = replace(place, inside=path).shown
        hint = replace(pinned, inside=path).shown
        url = hf_hub_url(place.repository, path, revision=commit)
        files[name] = WebFile(url, shown, hint, size, None, headers, HubTarget(commit))
        found = try_to_load_from_cache(place.repository, path, revision=commit)
        if isinstance(found, str):
            cached[name] = Path(found)
    if not files:
        raise InputError("cannot be read: there is no such file", path=place.shown)
    return RemoteFiles(place.shown, pinned.shown, files, cached)


def require_online(place: HubAddress, purpose: Purpose = READING) -> None:
    """Raise the purpose's error where the hub is switched off."""
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        what = f"cannot be {purpose.done}: HF_HUB_OFFLINE is set"
        advice = "unset it, or give a path in the hub's cache" if purpose is READING else "unset it"
        raise purpose.error(what, path=place.shown, advice=advice)


def repository_at(place: HubAddress) -> tuple[str, dict[str, int]]:
    """The commit of a repository, and the size of each file; RefusedError if they are not told.

    Raises UsageError for what cannot be the name of a repository, and the errors of requests.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    revision = place.revision
    try:
        info = HfApi().model_info(place.repository, revision=revision, files_metadata=True)
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
        if COMMIT.fullmatch(info.sha) and all(map(_is_file, sizes.items())):
            return info.sha, sizes
    except HFValidationError:
        raise UsageError("is not the name of a repository", path=place.shown) from None
    except OSError:
        # a failed request, which may be an error of values as well
        raise
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise RefusedError(MALFORMED) from error
    raise RefusedError(MALFORMED)


def _is_file(told: tuple[object, object]) -> bool:
    """Whether a name and a size can be those of a file in a repository."""
    name, size = told
    is_name = isinstance(name, str) and is_inside(name) and not LONE.search(name)
    return is_name and type(size) is int and 0 <= size < LARGEST


def _below(place: str, name: str) -> str | None:
    """The name of a file below a place, empty for the file itself; None for one elsewhere."""
    if not place:
        return name
    if name == place:
        return ""
    return name.removeprefix(f"{place}/") if name.startswith(f"{place}/") else None
