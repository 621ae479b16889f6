"""The open inputs of a change: each file is opened once, and each ledger is parsed once.

Rule 1: functions are passed the checkpoints and ledgers that were opened at the start.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component, ModelFiles, find_model
from ..checkpoints.open import STREAM, open_input
from ..checkpoints.remote.address import address_of
from ..collector import collecting_seldom
from ..errors import InputError, LedgerError, LimitError, SoupError, UnreadableError
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.locate import FolderSearch, locate
from ..ledger.read import ledger_text, parse_ledger_of


class OpenedInputs:
    """The checkpoints of one component that are read for a change, until the stack is closed."""

    def __init__(
        self, stack: ExitStack, search: Sequence[Path] = (), variant: str | None = None
    ) -> None:
        """Raise InputError for a place to search that is not a folder."""
        for folder in search:
            if not folder.is_dir():
                raise InputError("is not a folder to search", path=folder)
        self.named: list[Checkpoint] = []
        """The checkpoints that the user named, the soup first."""
        self.by_digest: dict[str, Checkpoint] = {}
        """Ingredients, past and future, that were found, by content digest."""
        stack.enter_context(collecting_seldom())
        self._stack = stack
        self._search = FolderSearch(search, self._open_at)
        self._variant = variant
        self._by_files: dict[tuple[str, ...], Checkpoint] = {}
        self._by_path: dict[str, Checkpoint | None] = {}
        self._unreadable: dict[str, str] = {}
        self._layouts: list[Checkpoint] = []
        self._ledgers: dict[str, Ledger] = {}

    def open(self, component: Component) -> Checkpoint:
        """The component of a model, opened unless it is open already."""
        if not component.files:
            # a stream can be read only once, and never equals another input
            return self._opened(component)
        key = tuple(map(os.path.abspath, (component.path, *component.files)))
        if key not in self._by_files:
            self._by_files[key] = self._by_path[key[0]] = self._opened(component)
        return self._by_files[key]

    def _opened(self, component: Component) -> Checkpoint:
        checkpoint = self._stack.enter_context(open_input(component))
        # ingredients with equal layouts share one table, so their number hardly costs memory
        if not any(checkpoint.share_layout(other) for other in self._layouts):
            self._layouts.append(checkpoint)
        return checkpoint

    def open_named(self, component: Component) -> Checkpoint:
        """The component of a model that the user named, opened unless it is open already."""
        self.named.append(self.open(component))
        return self.named[-1]

    def ledger(self, checkpoint: Checkpoint) -> Ledger | None:
        """The ledger that a checkpoint carries, not yet compared with its tensors.

        Raises LedgerError for one that is not sound.
        """
        text = ledger_text(checkpoint)
        if text is None:
            return None
        if text not in self._ledgers:
            self._ledgers[text] = parse_ledger_of(checkpoint, text)
        return self._ledgers[text]

    def offer(self, component: Component, ledger: Ledger, soup: str) -> None:
        """Use a checkpoint for the ingredient with its content; LedgerError if there is none."""
        checkpoint = self.open(component)
        digest = checkpoint_digest(checkpoint)
        if digest not in (entry.digest for entry in ledger.sources):
            raise LedgerError(f"is not in {soup}", path=checkpoint.label)
        self.by_digest[digest] = checkpoint

    def find(self, entry: IngredientEntry, soup: Checkpoint) -> Checkpoint | None:
        """An ingredient of a soup: already open, or found by its hint or a search; else None."""
        if entry.digest not in self.by_digest:
            # of thousands of ingredients without a hint, none needs the path of the folder
            folder = folder_of(soup) if entry.hints else None
            found = locate(entry, folder, self._search, self._open_at)
            if found is None:
                return None
            self.by_digest[entry.digest] = found
        return self.by_digest[entry.digest]

    def why_absent(self, entry: IngredientEntry, soup: Checkpoint) -> str:
        """Why `find` found no ingredient: nothing is there, or it cannot be read."""
        # of thousands of ingredients, no paths are made to look up in an empty table
        folder = folder_of(soup) if self._unreadable else None
        places = [] if folder is None else [os.path.abspath(folder / each) for each in entry.hints]
        reasons = (self._unreadable[place] for place in places if place in self._unreadable)
        return next(reasons, "is not found")

    def _open_at(self, path: Path) -> Checkpoint | None:
        """The checkpoint at a path; None unless there is exactly one sound checkpoint."""
        key = os.path.abspath(path)
        if key not in self._by_path:
            try:
                (component,) = find_model(path, variant=self._variant).components
                self._by_path[key] = self.open(component)
            except LimitError:
                # a failure that is not the fault of the file
                raise
            except UnreadableError as error:
                self._unreadable[key] = error.issues[0].what
                self._by_path[key] = None
            except (SoupError, ValueError):
                self._by_path[key] = None
        return self._by_path[key]


def open_model(inputs: Sequence[OpenedInputs], model: ModelFiles) -> tuple[Checkpoint, ...]:
    """Every component of a model that the user named, each among the inputs of its position."""
    return tuple(
        each.open_named(component) for each, component in zip(inputs, model.components, strict=True)
    )


def folder_of(checkpoint: Checkpoint) -> Path | None:
    """The folder that holds a checkpoint's file or folder; None for a stream."""
    component = checkpoint.component
    return Path(os.path.abspath(component.path)).parent if component.files else None


def is_input(text: str) -> bool:
    """Whether a user's text names a file, a folder or a stream, not a digest or a name."""
    # `Path.exists` raises an error if the text is too long for a path
    return text == STREAM or address_of(text) is not None or os.path.exists(text)  # noqa: PTH110
