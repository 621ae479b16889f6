"""What a run is going to do, told before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from .options import Options


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a person may want to know before the first step."""

    base: str
    class_name: str
    data: str
    output: str
    images: int
    captions: int
    classes: int
    data_digest: str
    resolution: int
    prediction: str
    steps: int
    epochs: float
    batch_size: int
    grad_accum: int
    processes: int
    trained: int
    """Parameters that change."""
    frozen: int
    device: str
    precision: str
    checkpoint_bytes: int
    model_bytes: int
    """Of what the run ends with."""
    disk_bytes: int
    """In all, with as many checkpoints as are kept, and one on its way."""
    notices: tuple[str, ...]

    @property
    def global_batch(self) -> int:
        """Images of an optimizer step."""
        return self.batch_size * self.grad_accum * self.processes


def count_steps(options: Options, images: int, processes: int) -> int:
    """The optimizer steps of a run; the last step of the last epoch may reach into another.

    Raises UsageError if neither steps nor epochs were asked for.
    """
    if options.steps is not None:
        return options.steps
    if options.epochs is None:
        raise UsageError("how long to train is not said", advice="--steps or --epochs")
    return -(-options.epochs * images // (options.batch_size * options.grad_accum * processes))


def checkpoint_size(trained: int, options: Options) -> int:
    """Bytes of a checkpoint of so many trained parameters, in float32.

    It holds weights, two moments of the optimizer, and the mean of the weights.
    """
    return 4 * trained * (4 if options.ema else 3)


def result_size(trained: int, copied: int, options: Options) -> int:
    """Bytes of what a run ends with: weights, the raw ones beside their mean, and copied files."""
    return 4 * trained * (2 if options.ema else 1) + copied
