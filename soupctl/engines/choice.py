"""Opening the GPU engine, whose devices and libraries may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import LimitError
from .contract import Engine


def open_engine(gpus: Sequence[int], budget: int) -> Engine:
    """The engine on the GPUs of these numbers, with `budget` bytes of each for staging.

    Raises LimitError if a GPU or a library is missing.
    """
    with _with_libraries():
        from .devices import open_devices  # noqa: PLC0415
        from .triton import TritonEngine  # noqa: PLC0415
    return TritonEngine(open_devices(gpus), budget)


def count_gpus() -> int:
    """The number of GPUs; LimitError if there is none, or a library is missing."""
    with _with_libraries():
        from . import devices  # noqa: PLC0415
    return devices.count_gpus()


@contextmanager
def _with_libraries() -> Iterator[None]:
    """Import modules that need torch and triton; LimitError if these are not installed."""
    try:
        yield
    except ImportError as error:
        what = f"cuda needs {error.name or error}, which is not installed"
        raise LimitError(what, advice="pip install 'soupctl[gpu]'") from error
