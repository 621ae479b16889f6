"""A request to change a soup: additions and removals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import Component
from ..checkpoints.open import STREAM
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.block_weights import NO_WEIGHT, WeightByBlock
from ..ledger.changes import WeightRemoval
from ..ledger.ledger import Ledger
from ..ledger.weights import rounded_weight
from .ingredients import require_several
from .kept_sum.opened import has_place, require_keepable
from .opened_inputs import OpenedInputs


@frozen
class Addition:
    """A checkpoint to add."""

    path: str | Path
    weight: Fraction | None = None
    """None for 1, for a soup's own total weight, or in a swap for the removed weight."""

    def __post_init__(self) -> None:
        """Raise UsageError for a weight that is zero or a float."""
        _require_exact(self.weight)


@frozen
class Removal:
    """An ingredient to remove."""

    what: str
    """Its path, its content digest, or its name in the ledger."""
    weight: Fraction | None = None
    """None for all of its weight."""

    def __post_init__(self) -> None:
        """Raise UsageError for a weight that is zero or a float."""
        _require_exact(self.weight)


def _require_exact(weight: Fraction | None) -> None:
    if weight is not None and not isinstance(weight, int | Fraction):
        raise UsageError(f"{weight!r} is not exact", advice="give a Fraction or an int")
    if weight == 0:
        raise UsageError("a weight of zero changes nothing", advice="leave it out")


@frozen
class Revision:
    """A soup to change, and how."""

    operation: str
    """`add`, `subtract` or `swap`, as the ledger records it."""
    soup: str | Path
    output: str | Path
    added: Sequence[Addition | str | Path] = ()
    """A path is added with weight 1, or in a swap with the removed weight."""
    removed: Sequence[Removal | str | Path] = ()
    """A path, digest or name is removed with all of its weight."""
    search: tuple[Path, ...] = ()
    """Folders to search for ingredients that are not at the ledger's hints."""
    approximate: bool = False
    """Whether to compute with the rounded soup instead of its ingredients."""
    total: Fraction | None = None
    """Total weight of a soup without a ledger; the result is approximate."""
    again: bool = False
    """Whether an ingredient that the soup has may be added again."""
    expand: bool = True
    """Whether an added soup is added as its own ingredients, not as one checkpoint."""
    keep_sum: bool | None = None
    """Whether the exact sum is kept beside the result; None if the soup has one."""
    round_weights: int | None = None
    """Decimals that the weights are rounded to before anything else; None for no rounding."""
    config_from: str | Path | None = None
    """The soup or added checkpoint whose configs are used if they differ without affecting the
    weights."""
    component: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for a request that no files could satisfy.

        That is a total that is not exact or negative, several streams, and the sum of a soup that
        is computed with as it is, or goes to standard output.
        """
        require_several("added", self.added)
        require_several("removed", self.removed)
        _require_exact(self.total)
        if self.total is not None and self.total < 0:
            raise UsageError(f"the total weight of a soup must be positive, not {self.total}")
        if self.keep_sum:
            require_keepable(self.output, allow_nonfinite=False)
            if self.rounded:
                what = "no sum can be kept of a rounded soup"
                raise UsageError(what, advice="leave out --keep-sum")
        named = (*(each.path for each in self.additions), *(each.what for each in self.removals))
        inputs = [self.soup, *named]
        if inputs.count(STREAM) > 1:
            raise UsageError("standard input can be only one of the inputs")

    @property
    def additions(self) -> tuple[Addition, ...]:
        """The additions, also those given as paths."""
        named = (x if isinstance(x, Addition) else Addition(x) for x in self.added)
        return tuple(replace(x, weight=self._rounded(x.weight)) for x in named)

    @property
    def removals(self) -> tuple[Removal, ...]:
        """The removals, also those given as paths, digests or names."""
        named = (x if isinstance(x, Removal) else Removal(str(x)) for x in self.removed)
        return tuple(replace(x, weight=self._rounded(x.weight)) for x in named)

    def _rounded(self, weight: Fraction | None) -> Fraction | None:
        return None if weight is None else rounded_weight(Fraction(weight), self.round_weights)

    @property
    def rounded(self) -> bool:
        """Whether the rounded soup is computed with."""
        return self.approximate or self.total is not None

    def keeps_sum(self, *, has_sum: bool) -> bool:
        """Whether a sum is kept beside the result, of a soup that has one or not."""
        return (has_sum and has_place(self.output)) if self.keep_sum is None else self.keep_sum

    @property
    def uses_sum(self) -> bool:
        """Whether the soup's own sum is used if it exists."""
        return not self.rounded and self.component is None


@frozen
class AddedPipeline:
    """Facts about an added whole model for one of its components."""

    digest: str | None
    """None for a single checkpoint."""
    ledger: Ledger | None
    """The component's own ledger, with derived pipelines; not compared with its tensors."""

    @property
    def is_soup(self) -> bool:
        """Whether it is a mean, whose ledger lists ingredients that can replace it."""
        if self.ledger is None or self.ledger.training is not None:
            return False
        return self.ledger.is_mean


@frozen
class ComponentChange:
    """One component of a revision: the request, and the checkpoints that it names, open."""

    revision: Revision
    inputs: OpenedInputs
    soup: Checkpoint
    before: Ledger
    """The soup's verified ledger, with derived pipelines."""
    removals: tuple[WeightRemoval, ...] = ()
    """The removals from this component."""
    additions: tuple[Addition, ...] = ()
    """The additions to this component: first those of whole models, then of partial deltas."""
    added: tuple[Checkpoint, ...] = ()
    """The checkpoint of each."""
    added_paths: tuple[str, ...] = ()
    """Path of each whole added model; its name in the ledger is the end of its path."""
    added_pipelines: tuple[AddedPipeline, ...] = ()
    sum: Component | None = None
    """The sum kept beside the soup."""
    added_sums: tuple[Component | None, ...] = ()
    """The sum kept beside each added soup."""
    placed: frozenset[str] = frozenset()
    """Digests of added adapters of which every module is in some component."""
    freed: WeightByBlock = NO_WEIGHT
    """The weight that is removed from some component, if nothing is removed from this one."""

    @property
    def operation(self) -> str:
        """What happens to this component, of which a swap of deltas may change one side only."""
        if self.revision.operation == "swap" and not (self.added and self.removals):
            return "add" if self.added else "subtract"
        return self.revision.operation
