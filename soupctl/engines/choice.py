"""Opening the GPU engine, whose device and libraries may be missing."""

from __future__ import annotations

from ..errors import LimitError
from .contract import Engine


def open_engine(device: str, budget: int) -> Engine:
    """The engine on `cuda` or `cuda:1`, with `budget` bytes for staging.

    Raises LimitError if the device or a library is missing.
    """
    try:
        # these modules import torch, which may not be installed
        from .devices import open_device  # noqa: PLC0415
        from .triton import TritonEngine  # noqa: PLC0415
    except ImportError as error:
        what = f"{device} needs {error.name or error}, which is not installed"
        raise LimitError(what, advice="pip install 'soupctl[gpu]'") from error
    return TritonEngine(open_device(device), budget)
