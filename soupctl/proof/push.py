"""Pushing a soup to a repository of the hub, with a model card that its ledger is made into.

Rule 1: one commit holds all files; ledgers are read, and not verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..checkpoints.listing import PIPELINE
from ..checkpoints.open import STREAM, find_input
from ..checkpoints.remote.address import HubAddress, address_of, hub_address
from ..checkpoints.remote.hub_commit import commit_files, look_up, require_access
from ..errors import UsageError
from ..frozen import frozen
from ..merge.query import history
from .model_card import CARD, card_text
from .soup_files import SoupFiles, soup_files

MAIN = "main"
"""The branch that files are added to, unless another one is named."""


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


@frozen
class PlannedFile:
    """A file that would be added to a repository."""

    name: str
    """In the repository."""
    size: int
    is_replaced: bool
    """Whether the branch has a file of that name."""


@frozen
class PlannedPush:
    """What pushing a soup would do."""

    address: str
    repository: str
    branch: str
    folder: str
    """The folder in the repository; empty for the repository itself."""
    commit: str
    """The commit that the branch is at."""
    files: tuple[PlannedFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.files)


@frozen
class _Outgoing:
    """The files of a soup as they are to be in a repository."""

    place: HubAddress
    soup: SoupFiles
    contents: Mapping[str, Path | bytes]
    """By name in the repository, sorted."""
    sizes: Mapping[str, int]


def push(request: PushRequest, *, force: bool = False, shows_progress: bool = False) -> Pushed:
    """Add the files of a soup to a branch, in one commit; `force` replaces files there.

    Raises UsageError for another kind of target or a soup that is not on this disk, LedgerError for
    what is not a soup, LimitError without the library, and OutputError if the repository or
    branch is absent, refused or moves meanwhile, or a file exists; then nothing is added.
    """
    found = _outgoing(request)
    place = found.place

    def check() -> None:
        for each in found.soup.files.values():
            each.require_unchanged()

    title = f"Add the soup {found.soup.name}"
    commit = commit_files(
        place, found.contents, title, replace=force, check=check, shows_progress=shows_progress
    )
    address = HubAddress(place.repository, commit, place.inside).shown
    return Pushed(address, commit, tuple(found.contents), sum(found.sizes.values()))


def plan_push(request: PushRequest, *, force: bool = False) -> PlannedPush:
    """What `push` would add, and where; nothing is sent.

    Raises what `push` raises before it sends anything, and OutputError for a repository that may
    only be read.
    """
    found = _outgoing(request)
    place = found.place
    tip = look_up(place, found.contents, replace=force)
    require_access(place)
    files = (PlannedFile(name, size, name in tip.replaced) for name, size in found.sizes.items())
    branch = place.revision or MAIN
    return PlannedPush(
        place.shown, place.repository, branch, place.inside, tip.commit, tuple(files)
    )


def _outgoing(request: PushRequest) -> _Outgoing:
    """What is to be pushed; raises the errors of `push` that are about the soup or the target."""
    place = _place(request)
    model = find_input(request.soup)
    ledgers = [
        (part.name, ledger)
        for part, (_, ledger) in zip(model.components, history(request.soup), strict=True)
    ]
    soup = soup_files(model)
    inside = PurePosixPath(place.inside)
    contents: dict[str, Path | bytes] = {
        str(inside / name): each.path for name, each in soup.files.items()
    }
    sizes = {str(inside / name): each.identity.size for name, each in soup.files.items()}
    if request.card:
        listing = model.pipeline_index
        is_pipeline = listing is not None and listing.path.name == PIPELINE
        title = inside.name or place.repository.rpartition("/")[2]
        card = card_text(title, ledgers, is_pipeline=is_pipeline).encode()
        contents[str(inside / CARD)] = card
        sizes[str(inside / CARD)] = len(card)
    names = sorted(contents)
    return _Outgoing(
        place, soup, {name: contents[name] for name in names}, {name: sizes[name] for name in names}
    )


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
