"""Adapters as sources of a sum.

Rule 1: an adapter stands for updates of the tensors of one base, in which its modules were found.
Rule 2: its own tensors are digested like tensors that are left out of a soup, and are read again
for each tensor of the base that they change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ..checkpoints.safetensors import StoredTensor
from ..format.header import Tensor
from ..lora.adapter import Adapter, TargetPart
from ..lora.targets import TargetIndex

if TYPE_CHECKING:
    from ..engines.updates import Update


@dataclass(frozen=True, slots=True)
class ScaledUpdate:
    """Rows of an update that are added to a tensor, times a scale."""

    update: Update
    scale: Fraction
    first: int
    """The first of its rows that are used."""
    count: int
    target: int
    """The row of the tensor that the first is added to."""


class AdapterReader:
    """An adapter for one base: the updates of each tensor that it changes."""

    def __init__(
        self, adapter: Adapter, base: Mapping[str, Tensor], label: str, component: str
    ) -> None:
        """`base` are the tensors of what messages call `label`, by their names.

        Raise MismatchError for modules that have no place in it.
        """
        self.checkpoint = adapter.checkpoint
        self.ledger = None
        """An adapter has none."""
        self._adapter = adapter
        index = TargetIndex(base, component)
        self.parts = adapter.locate(base, index, label)
        self.changed: Mapping[str, Tensor] = {name: base[name] for name in self.parts}
        """The tensors that it changes, as the base has them."""
        self.tensors: Mapping[str, Tensor] = {**self.checkpoint.tensors, **self.changed}

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.checkpoint.label

    @property
    def digest(self) -> str | None:
        """Its content digest, if known."""
        return self.checkpoint.digest

    @property
    def scale_digest(self) -> str | None:
        """The digest of its scales where a config beside its file says them; else None."""
        return self._adapter.scale_digest

    def stored(self, name: str) -> StoredTensor:
        """One of its own tensors, open for reading."""
        return self.checkpoint.stored(name)

    def scales(self, name: str) -> Sequence[Fraction]:
        """The scales of the updates of a tensor, without that of the adapter."""
        return [part.scaled.scale for part in self.parts[name]]

    def updates(self, name: str) -> list[ScaledUpdate]:
        """The updates of a tensor, read; InputError for factors that hold NaN or infinity."""
        return [self._update(part) for part in self.parts[name]]

    def _update(self, part: TargetPart) -> ScaledUpdate:
        update = self._adapter.update(part.scaled.module)
        return ScaledUpdate(update, part.scaled.scale, part.first, part.count, part.target)


def scales_of(source: object) -> str | None:
    """The digest of the scales that a config says of an adapter; None for any other source."""
    return source.scale_digest if isinstance(source, AdapterReader) else None
