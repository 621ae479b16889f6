"""Named choices that commands share; every command imports them, so nothing heavy is here."""

from __future__ import annotations

from enum import Enum, StrEnum


class OnInt(Enum):
    """What to do with integer tensors that differ between ingredients."""

    REFUSE = "refuse"
    FIRST = "first"


class MergeMethod(StrEnum):
    """A method of merging that is not a weighted mean with given weights."""

    TIES = "ties"
    DARE = "dare"
    DELLA = "della"
    BREADCRUMBS = "breadcrumbs"
    MODEL_STOCK = "model-stock"
    SLERP = "slerp"
    KARCHER = "karcher"
    GEOMETRIC_MEDIAN = "geometric-median"


class LoraTask(Enum):
    """What `soupctl lora` does."""

    EXTRACT = "extract"


class Grouping(Enum):
    """How differences of checkpoints are listed."""

    BLOCK = "block"
    TENSOR = "tensor"


class SearchSampler(Enum):
    """How a search proposes weights."""

    TPE = "tpe"
    CMA_ES = "cma-es"
    RANDOM = "random"


class OnMissing(Enum):
    """What to do with tensors that not all ingredients have."""

    REFUSE = "refuse"
    KEEP = "keep"
    """The mean of those that have it."""
    DROP = "drop"

    @property
    def option(self) -> str:
        """The option and value that ask for it on the command line."""
        return f"--on-missing {self.value}"


class Layout(StrEnum):
    """The names and the division of the tensors of a model."""

    LDM = "ldm"
    """One file, as Stability AI and Black Forest Labs publish models, and ComfyUI reads them."""
    DIFFUSERS = "diffusers"
    """A folder for each component, in the naming of diffusers."""


class Quantization(StrEnum):
    """How a soup's weights of linear layers are stored in fewer bits."""

    FP8_SCALED = "fp8-scaled"
    """Float8 with a scale per tensor, as ComfyUI reads it."""


class ConvertQuantization(StrEnum):
    """How `convert` stores weights of linear layers in fewer bits."""

    FP8_SCALED = "fp8-scaled"
    """Float8 with a scale per tensor, as ComfyUI reads it."""
    Q8_0 = "q8_0"
    """Eight bits with a scale for every 32 weights, in a GGUF file."""


class Method(Enum):
    """How a soup is computed."""

    INGREDIENTS = "ingredients"
    SUM = "sum"
    """The exact sum kept beside the soup, and the ingredients that change."""
    ROUNDED = "rounded soup"
    """The rounded soup itself, and the ingredients that change: not exact."""


class WeightBy(Enum):
    """Source of the weights of ingredients."""

    SAMPLES = "samples"
    """The number of images that each was trained on."""
    SQRT_SAMPLES = "sqrt-samples"
    """The square root of that number, rounded to six decimals."""


class Level(Enum):
    """A level of proof; each includes those before it."""

    NOTHING = "nothing"
    HEADER = "header"
    """Its ledger is sound and lists its tensors' dtypes."""
    DIGEST = "digest"
    """Its tensors match the digest in its ledger."""
    REBUILD = "rebuild"
    """Its ingredients reproduce its tensors, bit for bit."""

    def holds(self, other: Level) -> bool:
        """Whether this level of proof includes the other."""
        levels = list(Level)
        return levels.index(self) >= levels.index(other)

    @property
    def meaning(self) -> str:
        """What is known of a soup that is proven to this level."""
        return {
            Level.NOTHING: "nothing is proven",
            Level.HEADER: "its header is sound",
            Level.DIGEST: "its tensors are those that its ledger describes",
            Level.REBUILD: "its ingredients make it, bit for bit",
        }[self]


class Proof(Enum):
    """The verdict of `verify`, the worst first."""

    FAILED = "FAILED"
    """A claim of the soup or its ledger is disproved."""
    UNPROVEN = "UNPROVEN"
    """It is not proven to the requested level, but nothing is disproved either."""
    OK = "OK"


class Prediction(StrEnum):
    """The quantity that the denoiser predicts."""

    AUTO = "auto"
    EPSILON = "epsilon"
    VELOCITY = "v_prediction"
    SAMPLE = "sample"
    FLOW = "flow_prediction"
    """Noise minus image, as in flow matching."""


class Weighting(StrEnum):
    """How flow matching draws timesteps (`logit_normal`, `mode`) or weights losses (the others)."""

    NONE = "none"
    LOGIT_NORMAL = "logit_normal"
    MODE = "mode"
    SIGMA_SQRT = "sigma_sqrt"
    COSMAP = "cosmap"


class Balance(StrEnum):
    """Form of the load-balancing loss of a prompt bank's gates: what it evens out."""

    AS_CODED = "as-coded"
    """Prompts within each sample, summed over the blocks, as the released code does."""
    OVER_BATCH = "over-batch"
    """Prompts within each block, summed over the samples of a batch."""


class Preset(StrEnum):
    """Published settings: several options at once."""

    OFFICIAL = "official"
    """The settings of the released code of Diffusion Model Patching."""


class Schedule(StrEnum):
    """Learning-rate schedule after warmup."""

    CONSTANT = "constant"
    COSINE = "cosine"
    LINEAR = "linear"


class Precision(StrEnum):
    """Mixed precision of the denoiser; its weights are always kept in float32."""

    NO = "no"
    BF16 = "bf16"
    FP16 = "fp16"


class Optimizer(StrEnum):
    """Optimizer of the weights."""

    ADAMW = "adamw"
    ADAMW8BIT = "adamw8bit"
    ADAFACTOR = "adafactor"


class WeightDtype(StrEnum):
    """Dtype of the denoiser's weights in training."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Tracker(StrEnum):
    """Service that metrics are sent to, besides metrics.jsonl."""

    NONE = "none"
    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


class CaptionFiles(StrEnum):
    """What a caption file beside an image holds."""

    LINES = "lines"
    """One caption a line; one of them is chosen at random each time."""
    WHOLE = "whole"
    """One caption, however many lines it has."""


class SaveAs(StrEnum):
    """What a run publishes its model as."""

    FOLDER = "folder"
    """A pipeline in the layout of diffusers."""
    SINGLE_FILE = "single-file"
    """The pipeline, and a file with all of its models in the layout of LDM."""


class SaveDtype(StrEnum):
    """Dtype of the weights that a run publishes."""

    FLOAT32 = "float32"
    BASE = "base"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
