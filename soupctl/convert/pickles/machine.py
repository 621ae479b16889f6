"""A pickle read as data: the instructions that make values are followed, and nothing is called.

Rule 1: a name of a class or function becomes a value of its own; only the tables below say what
such a value applied to arguments stands for, and no name is ever imported.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from ...frozen import frozen

MOST_VALUES = 20_000_000
"""Instructions of a pickle that are followed at most."""
IGNORED = (
    "argparse.Namespace",
    "datetime.",
    "lightning.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "torch.Size",
    "torch.device",
    "typing.",
)
"""Names that trainers put beside the tensors: what is made of them is not looked at."""
TENSORS = {
    "torch._utils._rebuild_tensor_v2": 6,
    "torch._utils._rebuild_tensor_v3": 7,
}
"""Functions that stand for a tensor, and how many arguments they have at least."""
PARAMETER = "torch._utils._rebuild_parameter"
DICTS = ("collections.OrderedDict", "builtins.dict")


class PickleProblem(ValueError):
    """A pickle that holds more than a checkpoint does, or is damaged."""


@frozen
class PickledName:
    """The name of a class or function, which is never imported."""

    text: str


@frozen
class PickledTensor:
    """A tensor as a pickle describes it, unchecked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any
    dtype: str | None
    """The name of its dtype; None if its storage tells it."""


@frozen
class PickledStorage:
    """A storage as a pickle describes it, unchecked."""

    kind: str
    key: Any
    count: Any


class IgnoredValue:
    """A value that is not looked at."""


def load(data: bytes) -> Any:
    """The value of a pickle; PickleProblem for one that is not of a checkpoint."""
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_VALUES:
                raise PickleProblem("has too many instructions")
            if opcode.name == "STOP":
                return machine.pop()
            machine.follow(opcode.name, argument)
    except PickleProblem:
        raise
    except (ValueError, IndexError, KeyError, TypeError, RecursionError, OverflowError) as error:
        text = str(error).partition("\n")[0]
        raise PickleProblem(f"is damaged: {text or type(error).__name__}") from None
    raise PickleProblem("ends early")


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self._stack.pop()

    def follow(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in VALUES:
            self._stack.append(argument)
        elif name in FRESH:
            self._stack.append(FRESH[name]())
        elif name in MEMOS:
            MEMOS[name](self, argument)
        elif name in RULES:
            RULES[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise PickleProblem(f"has the instruction {name}, which checkpoints do not have")

    def mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def marked(self) -> list[Any]:
        found = self._stack
        self._stack = self._marks.pop()
        return found

    def put(self, argument: Any) -> None:
        self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]

    def get(self, argument: Any) -> None:
        self._stack.append(self._memo[int(argument)])

    def tuple_of(self, count: int | None) -> None:
        found = self.marked() if count is None else [self.pop() for _ in range(count)][::-1]
        self._stack.append(tuple(found))

    def append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, set):
            # what is in sets is not looked at, and may not be hashable
            target.add(len(target))
        elif not isinstance(target, IgnoredValue):
            raise PickleProblem("appends to what is no list")

    def set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            for key, value in zip(values[::2], values[1::2], strict=True):
                # other keys than texts and numbers are not looked at
                target[key if isinstance(key, str | int | float) else repr(type(key))] = value
        elif not isinstance(target, IgnoredValue):
            raise PickleProblem("sets an item of what is no dict")

    def name(self, text: str) -> None:
        self._stack.append(PickledName(_known(text)))

    def build(self, _: Any) -> None:
        # the state of a dict, such as `_metadata`, or of what is not looked at
        self.pop()
        if not isinstance(self._stack[-1], dict | IgnoredValue):
            raise PickleProblem("gives a state to what has none")

    def apply(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self._stack.append(_made(function, arguments))

    def persistent(self, _: Any) -> None:
        found = self.pop()
        if not (isinstance(found, tuple) and len(found) >= 5 and found[0] == "storage"):
            raise PickleProblem("refers to what is no storage")
        kind = found[1]
        if not isinstance(kind, PickledName):
            raise PickleProblem("has a storage of no kind")
        self._stack.append(PickledStorage(kind.text, found[2], found[4]))


def _known(text: str) -> str:
    """The name, if it is one that checkpoints have; PickleProblem for any other."""
    is_storage = text.startswith(("torch.", "torch.storage.")) and text.endswith("Storage")
    known = text in TENSORS or text == PARAMETER or text in DICTS or is_storage
    if known or text.startswith(IGNORED) or text.removeprefix("torch.") in DTYPES:
        return text
    raise PickleProblem(f"names {text[:80]!r}, which no checkpoint needs; nothing was run")


def _made(function: Any, arguments: Any) -> Any:
    """What a name applied to arguments stands for."""
    if not isinstance(function, PickledName | IgnoredValue) or not isinstance(arguments, tuple):
        raise PickleProblem("calls what is no name")
    if isinstance(function, IgnoredValue):
        return function
    if function.text in DICTS:
        return {}
    if function.text == PARAMETER and arguments and isinstance(arguments[0], PickledTensor):
        return arguments[0]
    if len(arguments) >= TENSORS.get(function.text, len(arguments) + 1):
        dtype = None
        if function.text.endswith("_v3"):
            dtype = getattr(arguments[6], "text", "").removeprefix("torch.")
        storage, offset, shape, strides, *_ = arguments
        return PickledTensor(storage, offset, shape, strides, dtype)
    if function.text.startswith(IGNORED):
        return IgnoredValue()
    raise PickleProblem(f"calls {function.text[:80]!r} in a way that no checkpoint does")


DTYPES = frozenset(
    {
        *("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64"),
        *("bool", "uint8", "int8", "int16", "int32", "int64"),
    }
)
VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    }
)
"""Instructions that are a value."""
FRESH: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
MEMOS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
}
RULES: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.pop(),
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.marked()),
    "ADDITEMS": lambda machine, _: machine.append(machine.marked()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marked()),
    "GLOBAL": lambda machine, text: machine.name(str(text).replace(" ", ".")),
    "STACK_GLOBAL": lambda machine, _: machine.name(
        ".".join([str(machine.pop()), str(machine.pop())][::-1])
    ),
    "REDUCE": _Machine.apply,
    "NEWOBJ": _Machine.apply,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
