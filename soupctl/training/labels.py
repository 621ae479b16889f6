"""The numbers that a base gives to the classes of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MismatchError, shortened

LONGEST_NUMBER = 20
"""Most characters of a class number."""


@dataclass(frozen=True, slots=True)
class ClassNumbers:
    """The classes of a dataset, as the base numbers them."""

    numbers: dict[str, int]
    """Class number by name."""
    null: int | None
    """The number of the null class, for samples without one; None if the base has none."""


def names_of_classes(pipeline: Mapping[str, Any]) -> dict[str, int]:
    """The numbers that a pipeline gives to names of classes in its `id2label`, if it has that.

    A class may have several names, separated by commas; a name of several classes is left out.
    """
    labels = pipeline.get("id2label")
    numbers: dict[str, set[int]] = {}
    for number, text in labels.items() if isinstance(labels, dict) else ():
        if isinstance(text, str) and str(number).isdecimal():
            for name in text.split(","):
                numbers.setdefault(name.strip(), set()).add(_whole(str(number), -1))
    return {name: min(found) for name, found in numbers.items() if len(found) == 1}


def number_classes(
    labels: Sequence[str],
    names: Sequence[str],
    embeddings: int,
    *,
    with_null: bool,
    path: Path,
    of_base: Mapping[str, int] | None = None,
) -> ClassNumbers:
    """The numbers of the classes in `labels` for a base with that many class embeddings.

    Labels that are integers are used as they are. Others are numbered in the order of `names`, as
    the base itself names its classes (`of_base`) if it knows one of them, or in sorted order if
    there are as many as the base has classes. With `with_null`, the last embedding is the null
    class. Raises MismatchError, naming the dataset's folder `path`, for
    classes that the base does not have.
    """
    known = embeddings - with_null
    found = sorted(set(labels))
    null = known if with_null else None
    if names:
        numbers = {name: number for number, name in enumerate(names)}
        advice = "classes in --config must name all classes of the base, in order"
    elif all(label.removeprefix("-").isdecimal() for label in found):
        numbers = {label: _whole(label, known) for label in found}
        advice = _advice(with_null)
    elif of_base and not of_base.keys().isdisjoint(found):
        numbers = dict(of_base)
        advice = "model_index.json names its classes; classes = [...] in --config names others"
    else:
        numbers = {name: number for number, name in enumerate(found)}
        advice = f"name all {known} in order with classes = [...] in --config; {_advice(with_null)}"
        if len(found) != known:
            what = f"expected {known} classes, as in the base, and found {len(found)}"
            raise MismatchError(what, path=path, advice=advice)
    _require_distinct({label: numbers[label] for label in found if label in numbers}, path)
    unknown = [label for label in found if not 0 <= numbers.get(label, known) < known]
    if unknown:
        shown = shortened(unknown[0])
        what = f"has the class {shown!r}, which is not one of the base's {known} classes"
        raise MismatchError(what, path=path, advice=advice)
    return ClassNumbers({label: numbers[label] for label in found}, null)


def _require_distinct(numbers: Mapping[str, int], path: Path) -> None:
    """Raise MismatchError for two classes of one number, such as `01` and `1`."""
    names: dict[int, str] = {}
    for label, number in numbers.items():
        if (other := names.setdefault(number, label)) != label:
            what = f"has the classes {other!r} and {label!r}, which are one number"
            raise MismatchError(what, path=path, advice="rename one of them")


def require_one_numbering(
    classes: Mapping[Path, ClassNumbers], of_base: Mapping[str, int] | None = None
) -> None:
    """Raise MismatchError if data shards of one base number a class by name, and differently.

    `classes` has those of each data shard, by its folder. One class may have several names: those
    that the base itself gives it (`of_base`), or numbers such as `01` and `1`.
    """
    numbers: dict[str, tuple[int, Path]] = {}
    names: dict[int, tuple[str, Path]] = {}
    for folder, found in classes.items():
        for label, number in found.numbers.items():
            same, where = numbers.setdefault(label, (number, folder))
            other, there = names.setdefault(number, (label, folder))
            if same != number:
                what = f"has the class {label!r} as number {number}, and {where} as {same}"
            elif not _are_one_class(other, label, of_base or {}):
                what = f"has the class {label!r} as number {number}, which is {other!r} in {there}"
            else:
                continue
            advice = "name all classes of the base in order with classes = [...] in --config"
            raise MismatchError(what, path=folder, advice=advice)


def _are_one_class(first: str, second: str, of_base: Mapping[str, int]) -> bool:
    """Whether two labels with one number are of one class."""
    if first.isdecimal() and second.isdecimal():
        return first.lstrip("0") == second.lstrip("0")
    return first == second or {first, second} <= of_base.keys()


def _advice(with_null: bool) -> str:
    if with_null:
        return "the last class embedding is the null class; --cond-drop 0 makes it a class"
    return "classes are numbered from 0"


def _whole(label: str, most: int) -> int:
    """The whole number that a label is; `most` for one with more digits than Python reads."""
    return int(label) if len(label) <= LONGEST_NUMBER else most
