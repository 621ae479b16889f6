"""Options of what training keeps in memory, and of averages that it stores besides."""

from __future__ import annotations

from collections.abc import Iterator

from ..choices import Precision, WeightDtype
from ..frozen import frozen
from .loss_options import LossOptions
from .option_fields import option

NARROWEST, WIDEST = 1e-3, 12**-0.5
"""Bounds of the width of a power-function average; the widest is the plain mean of all steps."""
MOST_TRACKS = 8


@frozen
class MemoryOptions(LossOptions):
    """The options of memory, after those of the loss."""

    weight_dtype: WeightDtype = option(
        WeightDtype.FLOAT32,
        "Dtype in which the denoiser is trained; bfloat16 is rounded at random after each step.",
        is_on_command_line=False,
        is_recorded_unset=False,
        is_for_banks=False,
    )
    fused_backward: bool = option(
        False,
        "Step each parameter in the backward pass, and free its gradient at once.",
        is_on_command_line=False,
        changes_weights=False,
        is_for_banks=False,
    )
    ema_on_cpu: bool = option(
        False,
        "Keep the EMA in the memory of the CPU.",
        is_on_command_line=False,
        is_recorded_unset=False,
    )
    ema_tracks: str | None = option(
        None,
        "Widths of power-function averages to store in checkpoints for ema, such as 0.05,0.10.",
        metavar="S,...",
        default_text="none",
        is_recorded_unset=False,
        is_for_banks=False,
    )

    @property
    def track_widths(self) -> tuple[float, ...]:
        """The widths of `ema_tracks`; ValueError if they are malformed."""
        if self.ema_tracks is None:
            return ()
        widths = tuple(float(each) for each in self.ema_tracks.split(","))
        if len(set(widths)) < len(widths) or len(widths) > MOST_TRACKS:
            raise ValueError("several tracks of one width, or too many")
        if not all(NARROWEST <= width <= WIDEST for width in widths):
            raise ValueError("a width is out of bounds")
        return widths


def track_problems(options: MemoryOptions) -> Iterator[str]:
    """A message if the widths of the averages to store are malformed."""
    try:
        _ = options.track_widths
    except ValueError:
        bounds = f"{NARROWEST} to {WIDEST:.4f}"
        yield f"--ema-tracks must be at most {MOST_TRACKS} different widths from {bounds}"


def memory_conflicts(options: MemoryOptions) -> Iterator[str]:
    """A message for each option of memory that does not work with another one."""
    if options.ema_on_cpu and not (options.ema or options.ema_tracks):
        yield "ema-on-cpu in --config needs an EMA: remove it, or add --ema"
    if options.weight_dtype is WeightDtype.BFLOAT16:
        yield from _problems_of_bfloat16(options)
    if options.fused_backward:
        yield from _problems_of_fused_backward(options)


def _problems_of_bfloat16(options: MemoryOptions) -> Iterator[str]:
    name = "weight-dtype = bfloat16 in --config"
    if options.precision is not Precision.BF16:
        yield f"{name} computes in bfloat16: add --precision bf16"
    if options.ema or options.ema_tracks:
        yield f"{name} is too coarse for averages: add --no-ema, and remove --ema-tracks"
    if options.train_text_encoder:
        yield f"{name} does not work with --train-text-encoder"


def _problems_of_fused_backward(options: MemoryOptions) -> Iterator[str]:
    name = "fused-backward in --config"
    if options.max_grad_norm:
        yield f"{name} steps before the norm of the gradient is known: set max-grad-norm = 0"
    if options.grad_accum > 1:
        yield f"{name} keeps no gradient to add to: --grad-accum must be 1"
    if options.precision is Precision.FP16:
        yield f"{name} does not work with --precision fp16: use bf16"
