"""What a model can be taught to predict; nothing else is here, because every command loads it."""

from __future__ import annotations

from enum import StrEnum


class Prediction(StrEnum):
    """What the denoiser is taught to predict."""

    AUTO = "auto"
    EPSILON = "epsilon"
    VELOCITY = "v_prediction"
    SAMPLE = "sample"
