"""The numbers that a base gives to the classes of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def number_classes(
    labels: Sequence[str], names: Sequence[str], embeddings: int, *, with_null: bool, path: Path
) -> ClassNumbers:
    """The numbers of the classes in `labels` for a base with that many class embeddings.

    Labels that are integers are used as they are. Others are numbered in the order of `names`, or
    in sorted order if there are as many as the base has classes. With `with_null`, the last
    embedding is the null class. Raises MismatchError, naming the dataset's folder `path`, for
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
    else:
        numbers = {name: number for number, name in enumerate(found)}
        advice = f"name all {known} in order with classes = [...] in --config; {_advice(with_null)}"
        if len(found) != known:
            what = f"expected {known} classes, as in the base, and found {len(found)}"
            raise MismatchError(what, path=path, advice=advice)
    unknown = [label for label in found if not 0 <= numbers.get(label, known) < known]
    if unknown:
        shown = shortened(unknown[0])
        what = f"has the class {shown!r}, which is not one of the base's {known} classes"
        raise MismatchError(what, path=path, advice=advice)
    return ClassNumbers({label: numbers[label] for label in found}, null)


def _advice(with_null: bool) -> str:
    if with_null:
        return "the last class embedding is the null class; --cond-drop 0 makes it a class"
    return "classes are numbered from 0"


def _whole(label: str, most: int) -> int:
    """The whole number that a label is; `most` for one with more digits than Python reads."""
    return int(label) if len(label) <= LONGEST_NUMBER else most
