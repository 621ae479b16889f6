"""Libraries that only some options need, and not everybody has."""

from __future__ import annotations

from importlib.util import find_spec

import accelerate

from ..choices import Optimizer, Tracker
from ..errors import LimitError
from .options import Options


def require_libraries(options: Options) -> None:
    """Raise LimitError if a library that the options need is not installed."""
    if options.optimizer is Optimizer.ADAMW8BIT and find_spec("bitsandbytes") is None:
        what = "optimizer = adamw8bit needs bitsandbytes, which is not installed"
        raise LimitError(what, advice="pip install bitsandbytes")
    name = options.log_with.value
    trackers = {each.value for each in accelerate.tracking.get_available_trackers()}
    if options.log_with is not Tracker.NONE and name not in trackers:
        what = f"log-with in --config needs {name}, which is not installed"
        raise LimitError(what, advice=f"pip install {name}")
