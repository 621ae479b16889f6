"""Pushing a soup to a repository of the hub, with a model card that its ledger is made into.

Rule 1: one commit holds all files; ledgers are read, and not verified.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..checkpoints.listing import PIPELINE
from ..checkpoints.open import STREAM, find_input
from ..checkpoints.remote.address import HubAddress, address_of, hub_address
from ..checkpoints.remote.hub_commit import commit_files
from ..errors import UsageError
from ..frozen import frozen
from ..merge.query import history
from .model_card import CARD, card_text
from .soup_files import soup_files


@frozen
class PushRequest:
    """A soup on this disk, and where to push it."""

    soup: str | Path
    target: str
    """`hf://OWNER/NAME[@BRANCH][/FOLDER]`."""
    card: bool = True
    """Whether README.md is made from the ledger, whatever the soup's folder has."""


@frozen
class Pushed:
    """A soup in a repository."""

    address: str
    """Its address, with the commit."""
    commit: str
    files: tuple[str, ...]
    """Their names in the repository."""
    size: int
    """Bytes of all files."""


def push(request: PushRequest, *, force: bool = False, shows_progress: bool = False) -> Pushed:
    """Add the files of a soup to a branch, in one commit; `force` replaces files there.

    Raises UsageError for another kind of target or a soup that is not on this disk, LedgerError for
    what is not a soup, LimitError without the library, and OutputError if the repository or
    branch is absent, refused or moves meanwhile, or a file exists; then nothing is added.
    """
    place = _place(request)
    model = find_input(request.soup)
    ledgers = [
        (part.name, ledger)
        for part, (_, ledger) in zip(model.components, history(request.soup), strict=True)
    ]
    soup = soup_files(model)
    inside = PurePosixPath(place.inside)
    files: dict[str, Path | bytes] = {
        str(inside / name): each.path for name, each in soup.files.items()
    }
    size = sum(each.path.stat().st_size for each in soup.files.values())
    if request.card:
        listing = model.pipeline_index
        is_pipeline = listing is not None and listing.path.name == PIPELINE
        name = inside.name or place.repository.rpartition("/")[2]
        files[str(inside / CARD)] = card_text(name, ledgers, is_pipeline=is_pipeline).encode()

    def check() -> None:
        for each in soup.files.values():
            each.require_unchanged()

    title = f"Add the soup {soup.name}"
    commit = commit_files(
        place, files, title, replace=force, check=check, shows_progress=shows_progress
    )
    address = HubAddress(place.repository, commit, place.inside).shown
    return Pushed(address, commit, tuple(sorted(files)), size)


def _place(request: PushRequest) -> HubAddress:
    """The target; UsageError for another kind, and for a soup that is not on this disk."""
    address = address_of(request.target)
    if address is None or address.scheme != "hf":
        shown = request.target if address is None else address.shown
        what = "is not hf://OWNER/NAME[@BRANCH][/FOLDER]"
        raise UsageError(what, path=shown)
    if request.soup == STREAM:
        raise UsageError("standard input has no files to push", advice="give the path of the soup")
    if (source := address_of(request.soup)) is not None:
        what = "is an address, and soups are pushed from this disk"
        raise UsageError(what, path=source.shown, advice="download it, and name the copy")
    return hub_address(address)
