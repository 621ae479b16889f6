"""What training lets a person choose from; nothing else is here, because every command loads it."""

from __future__ import annotations

from enum import StrEnum


class Schedule(StrEnum):
    """How the learning rate goes on after the warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"
    LINEAR = "linear"


class Precision(StrEnum):
    """In what the denoiser computes; its weights are always trained in float32."""

    NO = "no"
    BF16 = "bf16"
    FP16 = "fp16"


class Optimizer(StrEnum):
    """What updates the weights."""

    ADAMW = "adamw"
    ADAMW8BIT = "adamw8bit"


class Tracker(StrEnum):
    """Where metrics go besides metrics.jsonl."""

    NONE = "none"
    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


class SaveDtype(StrEnum):
    """The dtype of the weights that a run ends with."""

    FLOAT32 = "float32"
    BASE = "base"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
