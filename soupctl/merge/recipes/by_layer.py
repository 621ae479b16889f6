"""Weights that depend on the layer that a tensor is in, as mergekit's configs give them.

Rule 1: as in mergekit's config.py and plan.py, n values are interpolated linearly at t * (n - 1),
where layer i of the m layers of a slice has t = i / (m - 1), or 1 if it is the only one. Tensors
before the layers have t = 0 and are of the first slice, those after them t = 1 and of the last.
Rule 2: the first condition whose part is in a tensor's name counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import cached_property
from glob import escape

from ...errors import UsageError, shortened
from ...frozen import frozen

Conditions = tuple[tuple[str | None, tuple[Fraction, ...]], ...]
"""Parts of names, each with values over the layers for tensors that have it; None is in all."""
Row = tuple[Fraction, ...]

LAYER = re.compile(r"\.([0-9]{1,9})\.")
"""Matches the number of a layer, the first in a name."""
BEFORE = {
    *("embed_tokens", "tok_embeddings", "word_embeddings", "embeddings", "embed_in"),
    *("wte", "wpe"),
}
"""Parts of the names of tensors before the layers (mergekit's table of architectures)."""
AFTER = {
    *("norm", "norm_f", "ln_f", "final_layer_norm", "final_layernorm", "lm_head", "embed_out"),
    *("output", "pooler", "cls", "score", "classifier"),
}
"""Parts of the names of tensors after the layers (the same)."""
ONE_VALUE = "a filter with one value sets the weight of a part of the names"


@frozen
class LayerSlice:
    """Successive layers, and the weights of the operands in them."""

    start: int
    stop: int | None
    """One past the last layer; None for all that there are."""
    weights: tuple[Conditions, ...]
    """The weights of each operand; empty for one outside the slice, whose weight is 0."""


@frozen
class LayerWeights:
    """The weights of operands in every tensor, in slices that follow each other."""

    slices: tuple[LayerSlice, ...]
    normalize: bool = False
    """Whether the weights are divided by their total in each tensor."""
    factor: Fraction = Fraction(1)
    """The factor that all weights are multiplied by, after that."""

    def rows(self, names: Collection[str]) -> dict[str, Row]:
        """The weights of the operands in the tensor of each name.

        Raises UsageError for names whose layers cannot be told, or are not those of the slices.
        """
        layers = Layers(names)
        if len(self.slices) > 1 or self.slices[0].stop is not None:
            self._require_all(layers)
        return {name: self._row(name, layers) for name in names}

    def globs(self, names: Collection[str]) -> list[str]:
        """Globs of the tensors that may have weights in common."""
        every = [conditions for each in self.slices for conditions in each.weights if conditions]
        parts = dict.fromkeys(part for each in every for part, _ in each if part is not None)
        globs = [f"*{escape(part)}*" for part in parts]
        if len(self.slices) == 1 and all(len(v) == 1 for each in every for _, v in each):
            return globs
        layers = Layers(names)
        for number in range(layers.count):
            layer = f"{escape(layers.prefix)}.{number}."
            globs += [f"{layer}*{escape(part)}*" for part in parts]
            globs.append(f"{layer}*")
        return globs

    def _require_all(self, layers: Layers) -> None:
        stop = self.slices[-1].stop
        if stop != layers.count:
            what = f"the slices have {stop} layers, and the models have {layers.count}"
            raise UsageError(what, advice="every layer of the models is in one slice")

    def _row(self, name: str, layers: Layers) -> Row:
        part = self.slices[0] if len(self.slices) == 1 else self._slice_of(name, layers)
        row = tuple(_value(each, name, part, layers) for each in part.weights)
        total = sum(row, Fraction(0)) if self.normalize else Fraction(1)
        if not total:
            what = "the weights add up to 0, so they cannot be normalized"
            raise UsageError(what, tensor=name, advice="normalize: false leaves them as they are")
        return tuple(self.factor * weight / total for weight in row)

    def _slice_of(self, name: str, layers: Layers) -> LayerSlice:
        layer = layers.of(name)
        if layer is None:
            return self.slices[-1 if layers.is_after(name) else 0]
        return next(each for each in self.slices if each.stop is None or layer < each.stop)


class Layers:
    """The layers of a model, from the names of its tensors."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    @cached_property
    def _found(self) -> tuple[str, int]:
        """What comes before the number in the names of layers, and how many layers there are.

        Raises UsageError for a model without layers, or with layers in several places.
        """
        found: dict[str, set[int]] = {}
        for name in sorted(self._names):
            if match := LAYER.search(name):
                found.setdefault(name[: match.start()], set()).add(int(match.group(1)))
        if len(found) != 1:
            places = shortened(", ".join(found)) or "none"
            what = f"values over layers need one stack of layers, and the models have {places}"
            raise UsageError(what, advice=ONE_VALUE)
        ((prefix, numbers),) = found.items()
        if numbers != {*range(len(numbers))}:
            what = f"the layers of {prefix} are not numbered from 0 without a gap"
            raise UsageError(what, advice=ONE_VALUE)
        return prefix, len(numbers)

    @property
    def prefix(self) -> str:
        """What comes before the number in the names of layers."""
        return self._found[0]

    @property
    def count(self) -> int:
        """How many there are."""
        return self._found[1]

    def of(self, name: str) -> int | None:
        """The number of the layer of a tensor; None for one that is in none."""
        match = LAYER.search(name) if self.count else None
        return None if match is None else int(match.group(1))

    def is_after(self, name: str) -> bool:
        """Whether a tensor that is in no layer is after them; UsageError if it cannot be told."""
        parts = {*name.split(".")}
        if parts & BEFORE or not parts & AFTER:
            if not parts & BEFORE:
                what = "is not known to be before or after the layers"
                raise UsageError(what, tensor=name, advice=ONE_VALUE)
            return False
        return True


def _value(conditions: Conditions, name: str, part: LayerSlice, layers: Layers) -> Fraction:
    """The value of the first condition that a tensor of a slice fulfils; 0 for none."""
    values = next((v for text, v in conditions if text is None or text in name), (Fraction(0),))
    if len(values) == 1:
        return values[0]
    layer = layers.of(name)
    if layer is None:
        return values[-1] if layers.is_after(name) else values[0]
    stop = layers.count if part.stop is None else part.stop
    last = stop - part.start - 1
    return interpolated(values, Fraction(layer - part.start, last) if last else Fraction(1))


def interpolated(values: Sequence[Fraction], t: Fraction) -> Fraction:
    """The value at t, from 0 to 1, of values that are evenly spaced and joined by lines."""
    place = t * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])
