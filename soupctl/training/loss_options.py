"""Options of the loss, and of the memory and the precision that training takes."""

from __future__ import annotations

import re

from ..choices import Optimizer, Precision, Prediction
from ..frozen import frozen
from .data_options import DataOptions
from .option_fields import AT_LEAST_0, FRACTION, POSITIVE, option

RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})", re.ASCII)


@frozen
class LossOptions(DataOptions):
    """The options of loss, precision and memory, after those of the data."""

    prediction: Prediction = option(
        Prediction.AUTO,
        "What the denoiser predicts; auto for the setting of the base's scheduler.",
        is_on_command_line=False,
    )
    snr_gamma: float | None = option(
        None,
        "Gamma of min-SNR loss weighting, usually 5.",
        POSITIVE,
        default_text="no weighting",
        is_on_command_line=False,
    )
    noise_offset: float = option(
        0.0, "Strength of offset noise.", AT_LEAST_0, is_on_command_line=False
    )
    timesteps: str | None = option(
        None,
        "Train on the timesteps from LO up to but not including HI only, such as 0:250.",
        metavar="LO:HI",
        default_text="all",
        is_recorded_unset=False,
    )
    train_text_encoder: bool = option(
        False,
        "Train the text encoders, too.",
        is_recorded_unset=False,
        is_for_banks=False,
    )
    ema: bool = option(True, "Publish the exponential moving average (EMA) of the weights.")
    ema_decay: float = option(0.9999, "Decay of the EMA.", FRACTION, is_on_command_line=False)
    precision: Precision = option(
        Precision.NO, "Mixed precision of the denoiser, or no for float32."
    )
    grad_checkpointing: bool = option(
        False,
        "Recompute activations in the backward pass, to save memory.",
        is_on_command_line=False,
        changes_weights=False,
    )
    optimizer: Optimizer = option(Optimizer.ADAMW, "Optimizer.", is_on_command_line=False)

    @property
    def timestep_range(self) -> tuple[int, int] | None:
        """First timestep to train on and the one after the last; None for all."""
        return None if self.timesteps is None else parse_range(self.timesteps)


def parse_range(text: str) -> tuple[int, int]:
    """The two numbers of `LO:HI`; ValueError unless LO is below HI."""
    match = RANGE.fullmatch(text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError("not a range")
    return int(match[1]), int(match[2])
