"""The named choices of all commands; light, because every command loads them."""

from __future__ import annotations

from enum import Enum, StrEnum


class OnInt(Enum):
    """What happens to integer tensors that differ between ingredients."""

    REFUSE = "refuse"
    FIRST = "first"


class Method(Enum):
    """What a soup is computed from."""

    INGREDIENTS = "ingredients"
    SUM = "sum"
    """The exact sum that was kept beside the soup, and what changes."""
    ROUNDED = "rounded soup"
    """The soup as it is, and what changes: not exact."""


class WeightBy(Enum):
    """What gives ingredients their weights."""

    SAMPLES = "samples"
    """How many images each was trained on."""


class Level(Enum):
    """A level of proof; each holds those before it."""

    NOTHING = "nothing"
    HEADER = "header"
    """Its ledger is sound and describes tensors of these dtypes."""
    DIGEST = "digest"
    """Its tensors are those that the ledger describes."""
    REBUILD = "rebuild"
    """Its tensors are, bit for bit, what its ingredients make."""

    def holds(self, other: Level) -> bool:
        """Whether what is proven to this level is proven to the other."""
        levels = list(Level)
        return levels.index(self) >= levels.index(other)


class Prediction(StrEnum):
    """What the denoiser is taught to predict."""

    AUTO = "auto"
    EPSILON = "epsilon"
    VELOCITY = "v_prediction"
    SAMPLE = "sample"


class Balance(StrEnum):
    """Over what the gates of a prompt bank are to be flat."""

    AS_CODED = "as-coded"
    """Over the prompts, for every sample, once the blocks are summed."""
    OVER_BATCH = "over-batch"
    """Over the prompts, in every block, once the samples are summed."""


class Preset(StrEnum):
    """Several options at once."""

    OFFICIAL = "official"
    """What the released code of Diffusion Model Patching does."""


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
