"""A frozen class does what a frozen dataclass with slots of the standard library does."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest

from soupctl import frozen as frozen_module
from soupctl.frozen import frozen


def shape(decorate: Callable[[type[Any]], type[Any]]) -> tuple[type[Any], type[Any]]:
    """A class and a child of it, made by a decorator."""

    class Shape:
        """A class with every sort of field."""

        kind: ClassVar[str] = "shape"
        first: int
        second: tuple[int, ...] = (2,)
        third: list[int] = field(default_factory=list, compare=False)
        hidden: str = field(default="hidden", repr=False)
        total: int = field(init=False)
        fixed: int = field(init=False, default=7)
        made: dict[str, int] = field(init=False, default_factory=dict, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.first + sum(self.second))

    parent = decorate(Shape)

    class Longer(parent):  # type: ignore[misc, valid-type]
        """A child with a field and a text of its own."""

        length: float = 1.0

        def __repr__(self) -> str:
            return f"{self.first} of {self.length}"

    return parent, decorate(Longer)


OURS, THEIRS = shape(frozen), shape(dataclass(frozen=True, slots=True))
SHAPE = OURS[0]
globals()["Shape"] = SHAPE
SHAPE.__qualname__ = THEIRS[0].__qualname__ = "Shape"


@pytest.mark.parametrize(("mine", "theirs"), [*zip(OURS, THEIRS, strict=True)])
@pytest.mark.parametrize(
    ("values", "named"),
    [((1,), {}), ((1, (4, 5)), {"hidden": "else"}), ((), {"first": 3, "third": [1]})],
)
def test_instances_are_those_of_the_standard_library(mine, theirs, values, named):
    one, other = mine(*values, **named), theirs(*values, **named)
    assert repr(one) == repr(other)
    assert asdict(one) == asdict(other)
    assert hash(one) == hash(other)
    assert mine.__slots__ == theirs.__slots__
    assert mine.__match_args__ == theirs.__match_args__
    assert [each.name for each in fields(mine)] == [each.name for each in fields(theirs)]
    assert one == mine(*values, **named) == copy.deepcopy(one)
    assert (one == replace(one, first=9)) is (other == replace(other, first=9)) is False
    assert one != other


@pytest.mark.parametrize("made", [OURS, THEIRS])
def test_instances_of_a_child_and_its_parent_differ(made):
    parent, child = made
    assert parent(1) != child(1)


@pytest.mark.parametrize(("parent", "child"), [OURS, THEIRS])
def test_a_field_can_be_neither_assigned_nor_deleted_nor_added(parent, child):
    for each in (parent(1), child(1)):
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'first'"):
            each.first = 2
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'first'"):
            del each.first
        with pytest.raises((FrozenInstanceError, TypeError)):
            each.unknown = 1


@pytest.mark.parametrize(("parent", "child"), [OURS, THEIRS])
def test_wrong_arguments_are_refused_by_name(parent, child):
    for each in (parent, child):
        with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'first'"):
            each()
        with pytest.raises(TypeError, match="unexpected keyword argument 'total'"):
            each(1, total=2)


def test_defaults_that_are_made_are_made_for_each_instance():
    one, two = SHAPE(1), SHAPE(1)
    one.third.append(1)
    one.made["x"] = 1
    assert two.third == []
    assert two.made == {}


def test_instances_can_be_pickled():
    one = SHAPE(1, (2, 3))
    assert pickle.loads(pickle.dumps(one)) == one


def test_an_instance_is_not_equal_to_anything_else():
    assert SHAPE(1) != 1
    assert SHAPE(1).__eq__(1) is NotImplemented


@pytest.mark.parametrize("decorate", [frozen, dataclass(frozen=True, slots=True)])
def test_classes_without_fields_or_with_one_are_compared_too(decorate):
    class Empty:
        """A class without fields."""

    class One:
        """A class with one."""

        only: float

    empty, one = decorate(Empty), decorate(One)
    value = float("nan")
    assert empty() == empty()
    assert hash(empty()) == hash(())
    assert one(value) == one(value)
    assert repr(one(1.0)).endswith("One(only=1.0)")


def test_a_field_may_have_any_name():
    @frozen
    class Entries:
        """Options whose names Python or this module use themselves."""

        set_: int = 1
        MISSING: int = 2
        object: int = 3

    assert (4, 2, 5) == (Entries(4, object=5).set_, Entries().MISSING, Entries(4, object=5).object)


def test_threads_may_ask_for_the_fields_of_a_class_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @frozen
    class Asked:
        """A class that the standard library has not described so far."""

        first: int
        second: list[int] = field(default_factory=list)

    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(replace(Asked(1), first=2)))

    def described(**options: bool) -> Callable[[type[Any]], type[Any]]:
        if other.ident is None:
            # the other thread asks while this one describes the class
            other.start()
            other.join(0.1)
        return dataclass(**options)

    monkeypatch.setattr(frozen_module, "dataclass", described)
    assert replace(Asked(3), first=4) == Asked(4)
    other.join()
    assert found == [Asked(2)]
    assert fields(Asked)[1].default_factory is list
