"""Training that does not fit into memory: what to make smaller.

Rule 1: the advice names options of this run that can still be changed, the cheapest first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..choices import Optimizer, Precision
from ..diffusion.memory import is_out_of_memory
from ..errors import LimitError
from .options import Options


@contextmanager
def advising(options: Options, resolution: int) -> Iterator[None]:
    """Raise LimitError with advice in place of an error of the block that says so."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        images = "1 image" if options.batch_size == 1 else f"{options.batch_size} images"
        what = f"out of memory in training on {images} of {resolution} pixels at once"
        advice = "; ".join(smaller(options, resolution))
        raise LimitError(what, advice=advice) from error


def smaller(options: Options, resolution: int) -> Iterator[str]:
    """The options that make a step smaller, each in words, those first that keep its result."""
    if options.batch_size > 1:
        accumulated = options.grad_accum * options.batch_size
        yield f"--batch-size 1 --grad-accum {accumulated} takes the same steps in less memory"
    if not options.grad_checkpointing:
        yield "grad-checkpointing = true in --config recomputes activations"
    if options.precision is Precision.NO:
        yield "--precision bf16 halves activations"
    if options.optimizer is Optimizer.ADAMW:
        yield 'optimizer = "adamw8bit" or "adafactor" in --config has smaller moments'
    if options.ema and not options.ema_on_cpu:
        yield "ema-on-cpu = true in --config keeps the EMA out of the GPU"
    if options.bucket_resolutions:
        yield "bucket-resolutions in --config without the largest trains on smaller images"
    yield f"--resolution below {resolution} trains on smaller images"
