"""The weights in a mergekit config: numbers, by parts of names, and by layer in slices.

Rule 1: a setting that has no value for a tensor leaves it to the next one: that of the model, of
its slice, then of the whole config.
Rule 2: slices are read where each follows the one before, with the same layers of all models;
stacked, repeated or dropped layers are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...errors import shortened
from ...frozen import frozen
from .by_layer import Conditions, LayerSlice

if TYPE_CHECKING:
    from .mergekit import ConfigReader

FOLLOWS = "each slice begins where the one before ends; mergekit stacks layers in other ways"
RANGE = ("layer_range",)
LAYER_NUMBER = re.compile(r"[0-9]{1,9}")


@frozen
class Weights:
    """The models of a config in their order, and their weights."""

    models: tuple[str, ...]
    slices: tuple[LayerSlice, ...]

    def without(self, name: str) -> Weights:
        """The weights of all models but one."""
        places = [place for place, model in enumerate(self.models) if model != name]
        slices = (
            LayerSlice(each.start, each.stop, tuple(each.weights[n] for n in places))
            for each in self.slices
        )
        return Weights(tuple(self.models[n] for n in places), tuple(slices))

    @property
    def plain(self) -> tuple[Fraction, ...] | None:
        """The weights if they are the same in every tensor; else None."""
        (first, *others) = self.slices
        values = [v for each in first.weights for part, v in each if part is None]
        is_plain = not others and first.stop is None and all(len(w) == 1 for w in first.weights)
        if not is_plain or len(values) != len(self.models) or any(len(v) != 1 for v in values):
            return None
        return tuple(value for (value,) in values)


def read_weights(
    reader: ConfigReader, table: Mapping[str, Any], usual: object, base: object = None
) -> Weights:
    """The weights of the models that a config lists, or of its slices.

    `usual` is the weight in its own parameters; the base needs none. Issues are the reader's.
    """
    if table.get("slices") is None:
        listed = reader.listed(table.get("models"), ("weight",))
        settings = {name: (given.get("weight"), usual) for name, given in listed.items()}
        found = {name: _chain(reader, name, each, base) for name, each in settings.items()}
        return Weights(tuple(found), (LayerSlice(0, None, tuple(found.values())),))
    if table.get("models") is not None:
        reader.issues.add("the config has models and slices", "leave one of them out")
    return _sliced(reader, table["slices"], usual, base)


def _sliced(reader: ConfigReader, value: object, usual: object, base: object) -> Weights:
    if not isinstance(value, list) or not value:
        reader.issues.add("slices is not a list", "write - sources: [...] for each slice")
        return Weights((), (LayerSlice(0, None, ()),))
    read: list[tuple[int, int, dict[str, Conditions]]] = []
    for number, each in enumerate(value, 1):
        where = f"slice {number}: "
        table = reader.table(f"slice {number}", each)
        reader.known(where, table, ("sources", "parameters"))
        shared = reader.parameters(where, table, ("weight",)).get("weight")
        listed = reader.listed(table.get("sources"), ("weight",), f"{where}source ", RANGE)
        ranges = _ranges(reader, where, table.get("sources"))
        start = read[-1][1] if read else 0
        if any(begin != start for begin, _ in ranges) or len({*ranges}) > 1:
            what = f"{where}has other layers than those from {start} on in all of its sources"
            reader.issues.add(what, FOLLOWS)
        stop = ranges[0][1] if ranges else start
        settings = {name: (given.get("weight"), shared, usual) for name, given in listed.items()}
        found = {name: _chain(reader, name, each, base) for name, each in settings.items()}
        read.append((start, stop, found))
    models = tuple(dict.fromkeys(name for *_, found in read for name in found))
    slices = (
        LayerSlice(start, stop, tuple(found.get(name, ()) for name in models))
        for start, stop, found in read
    )
    return Weights(models, tuple(slices))


def _ranges(reader: ConfigReader, where: str, sources: object) -> list[tuple[int, int]]:
    """The ranges of layers of the sources of a slice."""
    found = []
    for each in sources if isinstance(sources, list) else ():
        value = each.get("layer_range") if isinstance(each, dict) else None
        numbers = value if isinstance(value, list) else []
        if len(numbers) != 2 or not all(map(LAYER_NUMBER.fullmatch, map(str, numbers))):
            reader.issues.add(f"{where}layer_range is not two whole numbers", "such as [0, 16]")
            continue
        start, stop = map(int, numbers)
        if start >= stop:
            reader.issues.add(f"{where}layer_range [{start}, {stop}] has no layers", FOLLOWS)
        found.append((start, stop))
    return found


def _chain(reader: ConfigReader, name: str, settings: Sequence[object], base: object) -> Conditions:
    """The conditions of a model's settings, the first of which counts first."""
    where = f"{shortened(name)!r}: "
    found: list[tuple[str | None, tuple[Fraction, ...]]] = []
    for setting in settings:
        if setting is None:
            continue
        found += _conditions(reader, where, setting)
        if any(part is None for part, _ in found):
            return tuple(found)
    if not found and name != base:
        reader.issues.add(f"{shortened(name)!r} has no weight", "add parameters: {weight: ...}")
    elif found:
        what = f"{where}weight has no value for the other tensors"
        reader.issues.add(what, "add a value without filter")
    return tuple(found)


def _conditions(reader: ConfigReader, where: str, value: object) -> Conditions:
    """The conditions of one setting, up to the first that all tensors fulfil."""
    if not isinstance(value, list) or not any(isinstance(each, dict) for each in value):
        return ((None, _values(reader, where, value)),)
    found = []
    for each in value:
        table = reader.table(f"{where}weight", each)
        reader.known(f"{where}weight: ", table, ("filter", "value"))
        part = table.get("filter")
        part = None if part in (None, "*") else str(part)
        found.append((part, _values(reader, where, table.get("value"))))
        if part is None:
            break
    return tuple(found)


def _values(reader: ConfigReader, where: str, value: object) -> tuple[Fraction, ...]:
    """A number, or numbers over the layers."""
    if not isinstance(value, list):
        return (reader.number(f"{where}weight", value),)
    if not value:
        reader.issues.add(f"{where}weight is an empty list", "such as 0.7 or [0.2, 0.8]")
        return (Fraction(1),)
    return tuple(reader.number(f"{where}weight", each) for each in value)
