"""A checkpoint open for reading: one file, or the shards of an index, as one set of tensors.

Rule 1: callers find tensors by name; only this module knows which file holds them.
Rule 2: an index is read as transformers and diffusers read it: it names the files, all tensors of
those count, and the last of two with one name does.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

from ..errors import as_shown
from ..format.header import Tensor
from ..storage.elsewhere import elsewhere
from .layout import Component
from .safetensors import SafetensorsFile, StoredTensor, open_safetensors

if TYPE_CHECKING:
    from .remote.read_ahead import ReadOrder


class Checkpoint:
    """The tensors of a component, which can be read until it is closed."""

    def __init__(self, component: Component, files: tuple[SafetensorsFile, ...]) -> None:
        self.component = component
        self.files = files
        self.digest: str | None = None
        """Content digest; None until it has been computed."""
        self.tensors: dict[str, Tensor] = {}
        self._holders: dict[str, SafetensorsFile] = {}
        repeated = []
        for file in files:
            for tensor in file.header.tensors:
                if tensor.name in self.tensors:
                    repeated.append(tensor.name)
                self.tensors[tensor.name] = tensor
                if len(files) > 1:
                    self._holders[tensor.name] = file
        self.repeated = tuple(repeated)
        """Tensors that are in several shards, of which the last is read."""

    @property
    def absent(self) -> tuple[str, ...]:
        """Tensors that the index lists and no shard has."""
        index = self.component.index
        return () if index is None else tuple(sorted(index.weight_map.keys() - self.tensors.keys()))

    @property
    def label(self) -> str:
        """The name of the checkpoint in messages."""
        return self.component.label

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata that all files agree on, and an index's own where it is text."""
        first, *rest = [file.header.metadata for file in self.files]
        index = self.component.index
        own = index.metadata if index else {}
        return {
            **{
                key: text
                for key, text in first.items()
                if all(other.get(key) == text for other in rest)
            },
            **{key: text for key, text in own.items() if isinstance(text, str)},
        }

    @cached_property
    def data_size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors.values())

    def share_layout(self, other: Checkpoint) -> bool:
        """Whether both lay out equal tensors; if so, one table serves both from now on."""
        if len(self.files) != len(other.files) or self.tensors != other.tensors:
            return False
        self.tensors = other.tensors
        for mine, theirs in zip(self.files, other.files, strict=True):
            if mine.header.tensors == theirs.header.tensors:
                mine.header = replace(mine.header, tensors=theirs.header.tensors)
        return True

    def file_of(self, name: str) -> SafetensorsFile:
        """The file that holds a tensor."""
        return self._holders[name] if self._holders else self.files[0]

    def stored(self, name: str) -> StoredTensor:
        """A tensor, open for reading."""
        return self.file_of(name).stored(self.tensors[name])

    def read_together(self, names: Iterable[str], buffer: memoryview) -> None:
        """Fill `buffer` with tensors, one after the other; raises what `FileReader` raises.

        Those that are next to each other in a file are read at once.
        """
        done = begin = end = 0
        last: SafetensorsFile | None = None
        for name in names:
            tensor, file = self.tensors[name], self.file_of(name)
            if tensor.start != end or file is not last:
                if last is not None and begin < end:
                    last.read_into(buffer[done : done + end - begin], begin)
                done += end - begin
                begin, last = tensor.start, file
            end = tensor.stop
        if last is not None and begin < end:
            last.read_into(buffer[done : done + end - begin], begin)

    def require_unchanged(self) -> None:
        """Raise OutputError if a file is not the one that was opened, or was written to since."""
        for file in self.files:
            file.require_unchanged()
        if self.component.index_file is not None:
            self.component.index_file.require_unchanged()

    def close(self) -> None:
        """Close the files; nothing can be read any more."""
        for file in self.files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_checkpoint(component: Component) -> Checkpoint:
    """The component, opened and validated; of its data nothing is read yet.

    Raises InputError if a file is malformed.
    """
    order = _read_order(component)
    with ExitStack() as stack:
        files = tuple(
            stack.enter_context(open_safetensors(path, _shown(component, index), order))
            for index, path in enumerate(component.files)
        )
        checkpoint = Checkpoint(component, files)
        stack.pop_all()
        return checkpoint


def _read_order(component: Component) -> ReadOrder | None:
    """The order in which shards on a server are read; None for files on this disk."""
    if all(elsewhere(path) is None for path in component.files):
        return None
    # imported late, because most files are on disk
    from .remote.read_ahead import ReadOrder  # noqa: PLC0415

    return ReadOrder()


def _shown(component: Component, index: int) -> str:
    single = len(component.files) == 1 and component.folder is None
    return component.label if single else as_shown(str(component.files[index]))
