"""Scoring candidates with a Python function, which is given their tensors as numpy arrays.

Rule 1: floats that numpy lacks are widened exactly to float32; other such dtypes are bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from math import isfinite
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from ..checkpoints.open import find_input, open_input
from ..errors import ScorerError, UsageError
from ..format.dtypes import DType, Kind
from .scorer import Candidate, Recorder

NUMPY = {
    DType.BOOL: "?",
    DType.U8: "u1",
    DType.I8: "i1",
    DType.U16: "<u2",
    DType.I16: "<i2",
    DType.U32: "<u4",
    DType.I32: "<i4",
    DType.U64: "<u8",
    DType.I64: "<i8",
    DType.F16: "<f2",
    DType.F32: "<f4",
    DType.F64: "<f8",
    DType.C64: "<c8",
}
FAILURES = (Exception, SystemExit)
"""What a scorer may raise; a script that ends itself must not end the command as well."""


class FunctionScorer:
    """Calls a function with the tensors of each candidate."""

    def __init__(self, function: str | Callable[[dict[str, Any]], float]) -> None:
        """Raise UsageError if there is no such function."""
        self._function = load_function(function) if isinstance(function, str) else function

    def score(self, candidates: Sequence[Candidate], record: Recorder) -> None:
        """Give `record` the score of each candidate; ScorerError for one that gets none."""
        for number, candidate in enumerate(candidates):
            arrays = arrays_of(candidate.path)
            try:
                # standard output is for the result alone
                with redirect_stdout(sys.stderr):
                    score = self._function(arrays)
            except FAILURES as error:
                what = f"the scorer raised {type(error).__name__}: {error}"
                raise ScorerError(what, path=candidate.label) from error
            record(number, _number(score, candidate.label))


def _number(score: object, label: str) -> float:
    try:
        number = float(score)  # type: ignore[arg-type]
    except OverflowError:
        what = "the scorer returned a number beyond the range of floats"
        raise ScorerError(what, path=label) from None
    except (TypeError, ValueError):
        number = None
    if number is None or not (isinstance(score, Real) or hasattr(score, "dtype")):
        what = f"the scorer returned a value of type {type(score).__name__}, not a number"
        raise ScorerError(what, path=label)
    if not isfinite(number):
        raise ScorerError(f"the scorer returned {number}, not a finite number", path=label)
    return number


def arrays_of(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by name; those of a pipeline as `component/name`.

    Raises the errors of `find_input` and `open_input`.
    """
    found = {}
    for component in find_input(path).components:
        prefix = f"{component.name}/" if component.name else ""
        with open_input(component) as checkpoint:
            for name, tensor in checkpoint.tensors.items():
                data = checkpoint.stored(name).read()
                found[prefix + name] = _array(data, tensor.dtype, tensor.shape)
    return found


def _array(data: bytes | bytearray, dtype: DType, shape: tuple[int, ...]) -> Any:
    import numpy as np

    from ..engines.update_mean import widened

    if dtype in NUMPY:
        return np.frombuffer(bytearray(data), NUMPY[dtype]).reshape(shape)
    if dtype.kind is Kind.FLOAT:
        return widened(memoryview(data), dtype).astype(np.float32).reshape(shape)
    return np.frombuffer(bytearray(data), np.uint8)


def load_function(text: str) -> Callable[[dict[str, Any]], float]:
    """The function at `module:function` or `file.py:function`; modules may be in this folder.

    Raises UsageError if there is none, ScorerError for a module that fails.
    """
    place, colon, name = text.rpartition(":")
    if not (colon and place and name):
        what = f"--scorer {text!r} is not module:function"
        raise UsageError(what, advice="such as score.py:accuracy")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageError(f"has no function {name!r}", path=place)
    return found  # type: ignore[no-any-return]


def _load_module(name: str) -> ModuleType:
    # after all others, so that no file here replaces a library
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError("is not a module that is found", path=name) from None
        raise _failed(name, error) from error
    except FAILURES as error:
        raise _failed(name, error) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError("is not a file", path=path)
    spec = spec_from_file_location(f"soupctl_scorer_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FAILURES as error:
        raise _failed(str(path), error) from error
    return module


def _failed(place: str, error: BaseException) -> ScorerError:
    what = f"the scorer cannot be loaded: {type(error).__name__}: {error}"
    return ScorerError(what, path=place)
