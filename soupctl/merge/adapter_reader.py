"""Adapters as sources of a sum.

Rule 1: an adapter stands for updates of the tensors of one base, in which its modules were found.
Rule 2: of a pipeline, each component gets the updates of its own modules.
Rule 3: its own tensors are digested like tensors that are left out of a soup, and are read again
for each tensor of the base that they change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING

from ..checkpoints.safetensors import StoredTensor
from ..format.header import Tensor
from ..frozen import frozen

if TYPE_CHECKING:
    from ..engines.updates import Update
    from ..lora.adapter import Adapter, UpdateRows


@frozen
class ScaledUpdate:
    """Rows of an update that are added to a tensor, times a scale."""

    update: Update
    scale: Fraction
    first: int
    """The first of its rows that are used."""
    count: int
    target: int
    """The row of the tensor that the first is added to."""


class Lacks(Enum):
    """The modules of an adapter that its base need not have."""

    NONE = "none"
    OTHERS = "those of other models by their names"
    ANY = "any"
    """They are in other components, or it was applied so before."""


@frozen
class BaseComponent:
    """The component of the model that an adapter was made for, which a base is."""

    component: str = ""
    """Folder name within a pipeline; empty if unknown."""
    is_of_pipeline: bool = False
    """Whether it is one of a pipeline, whose other components get the updates of their modules."""
    lacks: Lacks = Lacks.NONE


WHOLE = BaseComponent()


class AdapterReader:
    """An adapter for one base: the updates of each tensor that it changes."""

    def __init__(
        self, adapter: Adapter, base: Mapping[str, Tensor], label: str, place: BaseComponent = WHOLE
    ) -> None:
        """`base` are the tensors of what messages call `label`, by their names.

        Raise MismatchError for modules that have no place in it, and must have.
        """
        # imported late, because most commands read no adapter
        from ..lora.targets import TargetIndex

        self.checkpoint = adapter.checkpoint
        self.ledger = None
        """An adapter has none."""
        self._adapter = adapter
        index = TargetIndex(base, place.component, is_of_pipeline=place.is_of_pipeline)

        def may_lack(module: str) -> bool:
            is_others = place.lacks is Lacks.OTHERS and index.is_of_another(module)
            return is_others or place.lacks is Lacks.ANY

        self.rows_of = adapter.locate(base, index, label, may_lack)
        every = (rows for each in self.rows_of.values() for rows in each)
        self.placed = frozenset(rows.scaled.module.name for rows in every)
        """The modules that have a place in the base."""
        self.changed: Mapping[str, Tensor] = {name: base[name] for name in self.rows_of}
        """The tensors that it changes, as the base has them."""
        self.tensors: Mapping[str, Tensor] = {**self.checkpoint.tensors, **self.changed}

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.checkpoint.label

    @property
    def left_out(self) -> tuple[str, ...]:
        """The modules that have none."""
        names = (each.module.name for each in self._adapter.modules)
        return tuple(name for name in names if name not in self.placed)

    @property
    def says_no_scale(self) -> bool:
        """Whether nothing says the scale of any of its factors, which then is 1."""
        return self._adapter.says_no_scale

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
        return [rows.scaled.scale for rows in self.rows_of[name]]

    @property
    def denominator(self) -> int:
        """The common denominator of the scales of all its updates, also those of other models."""
        return self._adapter.denominator

    def updates(self, name: str) -> list[ScaledUpdate]:
        """The updates of a tensor, read; InputError for factors that hold NaN or infinity."""
        return [self._update(rows) for rows in self.rows_of[name]]

    def factor_elements(self, name: str) -> int:
        """The elements of all factors that the updates of a tensor are made of."""
        modules = (rows.scaled.module for rows in self.rows_of[name])
        return sum(tensor.count for each in modules for tensor in each.factors.values())

    def _update(self, rows: UpdateRows) -> ScaledUpdate:
        update = self._adapter.update(rows.scaled.module)
        return ScaledUpdate(update, rows.scaled.scale, rows.first, rows.count, rows.target)


def scales_of(source: object) -> str | None:
    """The digest of the scales that a config says of an adapter; None for any other source."""
    return source.scale_digest if isinstance(source, AdapterReader) else None
