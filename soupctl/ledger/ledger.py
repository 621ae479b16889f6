"""The ledger: the record of how a soup was made, as values.

Rule 1: equal soups have equal ledgers: ingredients by digest, no clock, no absolute paths.
Rule 2: all digests have the same length, so the size of a ledger is known before its digests are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from fractions import Fraction
from functools import cache, partial
from itertools import groupby

from ..choices import OnMissing, Quantization
from ..format.dtypes import DType
from ..frozen import frozen
from .block_weights import WeightByBlock, WeightTuple, exact_sum, summed
from .method_record import MethodRecord
from .training_record import TrainingRecord

LEDGER_KEY = "soupctl"
"""The metadata key of a ledger."""
SUM_KEY = "soupctl.sum"
"""The metadata key of the facts that a kept sum stores beside its ledger."""
DELTA_KEY = "soupctl.delta"
"""The metadata key of the facts that a delta stores beside its ledger."""
CONVERTED_KEY = "soupctl.converted"
"""The metadata key of the record of what a checkpoint was converted from; it is no ledger."""

APPLY = "apply"
"""The operation that adds deltas."""
MERGE = "merge"
"""The operation of a method that is not a weighted mean."""

UNKNOWN = "blake3:" + "0" * 64
"""Placeholder for a digest that is not known yet, of the same length."""

Runs = tuple[tuple[DType, int], ...]
"""Run-length encoded dtypes of tensors, in the order of their names: pairs of dtype and count."""


@frozen
class PipelineShare:
    """The share of an ingredient's weight that belongs to one of the pipelines that contain it."""

    digest: str
    """Digest of the whole pipeline: see `pipelines.py`."""
    name: str
    hint: str | None
    """The path at which the pipeline's component was."""
    weight: Fraction
    blocks: WeightTuple = ()
    """In each block of the ledger; empty where it is `weight` in all of them."""

    @property
    def weights(self) -> WeightByBlock:
        """Its weight by block."""
        return WeightByBlock(self.weight, self.blocks)


@frozen
class IngredientEntry:
    """One ingredient."""

    digest: str
    name: str
    hint: str | None
    weight: Fraction
    dtypes: Runs
    renamed: str | None = None
    """The renaming that gives its tensors the soup's names; None if they have them."""
    lacks: tuple[str, ...] = ()
    """Tensors of the soup that it lacks, or has under another name only, in order."""
    schemes: tuple[str, ...] = ()
    """The schemes of its quantised tensors that were averaged by value, sorted."""
    pipelines: tuple[PipelineShare, ...] = ()
    """For a pipeline's component: the pipelines that contain it, sorted by digest."""
    blocks: WeightTuple = ()
    """Its weight in each block of the ledger; empty where it is `weight` in all of them."""
    scales: str | None = None
    """Digest of the scales of an adapter where a config beside it says them; None elsewhere."""

    @property
    def weights(self) -> WeightByBlock:
        """Its weight by block."""
        return WeightByBlock(self.weight, self.blocks)

    @property
    def hints(self) -> tuple[str, ...]:
        """Every path at which a file of its content was."""
        found = (self.hint, *(share.hint for share in self.pipelines))
        return tuple(dict.fromkeys(hint for hint in found if hint is not None))


@frozen
class IntegerSource:
    """Integer tensors that differed, and the ingredient whose values were copied."""

    digest: str
    tensors: tuple[str, ...]


@frozen
class Change:
    """The change in the weight of one ingredient by an operation; positive if it grew."""

    digest: str
    name: str
    weight: Fraction
    blocks: WeightTuple = ()
    """In each block of the ledger; empty where it is `weight` in all of them."""

    @property
    def weights(self) -> WeightByBlock:
        """The change by block."""
        return WeightByBlock(self.weight, self.blocks)


@frozen
class SoupState:
    """One state in the history of a soup, and the operation that led to it."""

    operation: str
    changed: tuple[Change, ...]
    root: str
    exact: bool


@frozen
class Ledger:
    """The record of one soup: ingredients, options, history, and ledgers of its ancestors."""

    operation: str
    root: str
    """Content digest of the soup's tensors."""
    ingredients: tuple[IngredientEntry, ...]
    """Sorted by digest, one entry per digest."""
    dtypes: Runs
    asked_dtype: DType | None = None
    quantize: Quantization | None = None
    """The requested quantisation of linear layers."""
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    allow_nonfinite: bool = False
    on_missing: OnMissing = OnMissing.REFUSE
    """The requested treatment of tensors that only some ingredients have."""
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs with the requested dtype of tensors that match; the first match counts."""
    takes: tuple[tuple[str, str], ...] = ()
    """Globs with the content digest of the ingredient or donor whose tensors were taken."""
    donors: tuple[IngredientEntry, ...] = ()
    """Checkpoints of `takes` that are not ingredients: of weight 0, sorted by digest."""
    pads: tuple[str, ...] = ()
    """Globs of tensors that are padded with zeros to the input channels of the widest."""
    config_from: str | None = None
    """Content digest of the ingredient chosen by `--config-from`."""
    blocks: tuple[str, ...] = ()
    """Globs of blocks with weights of their own; a tensor is in the first that matches its name."""
    integer_source: IntegerSource | None = None
    exact: bool = True
    """Whether every state was computed from ingredients, never from a rounded soup."""
    changed: tuple[Change, ...] = ()
    """Changes from the state before; empty for an average, which has none."""
    chain: tuple[SoupState, ...] = ()
    """Earlier states, oldest first."""
    ancestors: Mapping[str, Ledger] = field(default_factory=dict)
    """Ledgers of all ingredients that are soups or were trained, and of theirs, by digest.

    Their own `ancestors` are empty.
    """
    disputed: tuple[str, ...] = ()
    """Digests, sorted, of ingredients and ancestors about which ledgers contradict each other."""
    training: TrainingRecord | None = None
    """The training of a trained checkpoint, which has no ingredients."""
    base: str | None = None
    """Digest of the ingredient that deltas are applied to, or that a delta was taken from; None for
    a mean."""
    deltas: tuple[str, ...] = ()
    """Digests, sorted, of the ingredients that are added to a mean of several others."""
    method: MethodRecord | None = None
    """The method that combined the ingredients; None for a mean, with or without deltas."""
    normalize: bool = True
    """Whether the weighted sum was divided by the total weight of the ingredients."""
    _added: frozenset[str] = field(init=False, repr=False, compare=False)
    """Digests of the ingredients whose weights are scales, found once for thousands of them."""

    def __post_init__(self) -> None:
        if self.base is None:
            added = frozenset(self.deltas)
        elif self.is_delta:
            added = frozenset()
        else:
            added = frozenset(entry.digest for entry in self.ingredients) - {self.base}
        object.__setattr__(self, "_added", added)

    @property
    def sources(self) -> tuple[IngredientEntry, ...]:
        """Everything that gave tensors to the soup: its ingredients, and donors."""
        return (*self.ingredients, *self.donors)

    def taken_from(self, digest: str) -> str:
        """The globs of the tensors that an ingredient or donor gave, as text for messages."""
        return ", ".join(glob for glob, source in self.takes if source == digest)

    @property
    def total(self) -> Fraction:
        """The divisor of the weighted sum of ingredients: for a mean, their total weight.

        It is that in tensors of no block, without deltas, which are added to the mean. Where they
        are applied to a base it is the weight of that; of a delta, and of a sum that was not
        divided, it is 1.
        """
        if not self.normalize:
            return Fraction(1)
        if self.base is None:
            return exact_sum(entry.weight for entry in self.models)
        return abs(self.base_weight)

    @property
    def models(self) -> tuple[IngredientEntry, ...]:
        """The ingredients that are not deltas."""
        return tuple(entry for entry in self.ingredients if not self.adds(entry))

    @property
    def added(self) -> frozenset[str]:
        """The digests of deltas and adapters among the ingredients."""
        return self._added

    def adds(self, entry: IngredientEntry) -> bool:
        """Whether an ingredient is a delta or an adapter, whose weight is a scale."""
        return entry.digest in self._added

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The share of each ingredient in the mean, or the scale of what is added to it."""
        # one division for all of thousands that have the same weight
        part_of = cache(partial(_part, self.total))
        return tuple(
            each.weight if self.adds(each) else part_of(*each.weight.as_integer_ratio())
            for each in self.ingredients
        )

    @property
    def known_shares(self) -> tuple[Fraction | None, ...]:
        """The shares; None for each ingredient of a merge by a method, which gives none."""
        return self.shares if self.method is None else (None,) * len(self.ingredients)

    @property
    def is_applied(self) -> bool:
        """Whether deltas are added to a base or a mean, or were before they were taken out."""
        return self.base is not None or self.states[0].operation == APPLY

    @property
    def is_mean(self) -> bool:
        """Whether it is a weighted mean, to which nothing is added."""
        return self.base is None and not self.deltas and self.method is None and self.normalize

    @property
    def base_weight(self) -> Fraction:
        """The weight of the base; 0 for a mean, which has none."""
        found = (entry.weight for entry in self.ingredients if entry.digest == self.base)
        return next(found, Fraction(0))

    @property
    def is_delta(self) -> bool:
        """Whether it is the record of a delta: a fine-tuned checkpoint minus its base."""
        return self.base_weight < 0

    @property
    def totals(self) -> WeightByBlock:
        """The total weight, usual and by block."""
        if self.base is None and self.normalize:
            return summed(entry.weights for entry in self.models)
        # a base has the same weight in every block, and so has a divisor that is no total
        return WeightByBlock(self.total)

    @property
    def states(self) -> tuple[SoupState, ...]:
        """All states of the soup, oldest first, the present one last."""
        return (*self.chain, SoupState(self.operation, self.changed, self.root, self.exact))


def _part(total: Fraction, numerator: int, denominator: int) -> Fraction:
    return Fraction(numerator, denominator) / total


def runs(dtypes: Iterable[DType]) -> Runs:
    """Run-length encoding of dtypes."""
    return tuple((dtype, sum(1 for _ in group)) for dtype, group in groupby(dtypes))
