"""Options of a training run, checked before anything heavy is imported.

Rule 1: an option either changes the trained weights, and is part of a run's identity, or it changes
only time and what is shown: its field says which (`changes_weights`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..choices import CaptionFiles, Optimizer, Precision, Prediction, SaveDtype, Schedule, Tracker
from ..errors import Issue, UsageError
from .option_fields import Bounds, CommandOptions, option, options_of, out_of_bounds

AT_LEAST_0, AT_LEAST_1, FRACTION = Bounds(0), Bounds(1), Bounds(0, 1)
POSITIVE = Bounds(0, above=True)
BATCH, SIDE, PROCESSES = Bounds(1, largest=65_536), Bounds(1, largest=32_768), Bounds(largest=256)
SEED = Bounds(0, largest=2**64 - 1)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a training run; base, data and output are given elsewhere.

    Raises UsageError, with all issues at once, for invalid values.
    """

    steps: int | None = option(
        None, "Number of optimizer steps.", AT_LEAST_1, metavar="N", instead_of="epochs"
    )
    epochs: int | None = option(
        None,
        "Number of passes over the data, instead of --steps.",
        AT_LEAST_1,
        metavar="N",
        instead_of="steps",
        # converted to steps
        changes_weights=False,
    )
    batch_size: int = option(4, "Images in a forward pass of one process.", BATCH, metavar="N")
    grad_accum: int = option(1, "Gradient accumulation steps.", AT_LEAST_1, metavar="N")
    lr: float = option(1e-5, "Learning rate.", POSITIVE, metavar="RATE", for_banks=1e-4)
    lr_schedule: Schedule = option(Schedule.CONSTANT, "Learning-rate schedule after warmup.")
    warmup: int = option(
        0,
        "Optimizer steps of linear learning-rate warmup.",
        AT_LEAST_0,
        is_on_command_line=False,
    )
    weight_decay: float = option(
        0.01, "Weight decay of AdamW.", AT_LEAST_0, is_on_command_line=False, for_banks=0.0
    )
    max_grad_norm: float = option(
        1.0,
        "Clip the gradient to this norm; 0 for no clipping.",
        AT_LEAST_0,
        is_on_command_line=False,
    )
    resolution: int | None = option(
        None,
        "Height and width of the images in pixels.",
        SIDE,
        metavar="N",
        default_text="the base's",
    )
    random_crop: bool = option(
        False, "Crop images at random instead of at the center.", is_on_command_line=False
    )
    flip: bool = option(
        False, "Mirror half of the images at random, left to right.", is_on_command_line=False
    )
    caption_column: str = option(
        "text", "Field of metadata.jsonl that holds the captions.", is_on_command_line=False
    )
    caption_files: CaptionFiles = option(
        CaptionFiles.LINES,
        "Whether a caption file has one caption a line, or is one caption as a whole.",
        is_on_command_line=False,
        # the digest of the data already covers the captions
        changes_weights=False,
    )
    cond_drop: float = option(
        0.1,
        "Probability of dropping a caption or class, for classifier-free guidance.",
        FRACTION,
        metavar="P",
    )
    classes: tuple[str, ...] = option(
        (),
        "Names of all classes of the base, in order, for data with only some of them.",
        is_on_command_line=False,
    )
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
    ema: bool = option(
        True,
        "Publish the exponential moving average (EMA) of the weights.",
        for_banks=False,
    )
    ema_decay: float = option(0.9999, "Decay of the EMA.", FRACTION, is_on_command_line=False)
    precision: Precision = option(
        Precision.NO, "Mixed precision of the denoiser; no computes in float32."
    )
    grad_checkpointing: bool = option(
        False,
        "Recompute activations in the backward pass, to save memory.",
        is_on_command_line=False,
        changes_weights=False,
    )
    optimizer: Optimizer = option(Optimizer.ADAMW, "Optimizer.", is_on_command_line=False)
    save_every: int = option(
        500, "Steps between checkpoints.", AT_LEAST_1, metavar="N", changes_weights=False
    )
    keep: int = option(
        2,
        "Number of checkpoints to keep, the newest.",
        AT_LEAST_1,
        is_on_command_line=False,
        changes_weights=False,
    )
    sample_every: int | None = option(
        None,
        "Steps between sample grids.",
        AT_LEAST_1,
        metavar="N",
        default_text="no grids",
        changes_weights=False,
    )
    prompt: tuple[str, ...] = option(
        (),
        "Prompt for the sample grids; can be repeated.",
        metavar="TEXT",
        changes_weights=False,
    )
    sample_grid: int = option(
        4,
        "Images of each prompt or class in a sample grid.",
        BATCH,
        is_on_command_line=False,
        changes_weights=False,
    )
    sample_steps: int = option(
        25,
        "Denoising steps of the sample grids.",
        AT_LEAST_1,
        is_on_command_line=False,
        changes_weights=False,
    )
    guidance: float = option(
        3.0,
        "Classifier-free guidance scale of the sample grids.",
        AT_LEAST_0,
        is_on_command_line=False,
        changes_weights=False,
    )
    seed: int = option(0, "Random seed.", SEED, metavar="N")
    workers: int = option(
        0,
        "Processes that load images; 0 to load them in the training process.",
        PROCESSES,
        is_on_command_line=False,
        changes_weights=False,
    )
    log_every: int = option(
        10,
        "Steps between lines of metrics.jsonl.",
        AT_LEAST_1,
        is_on_command_line=False,
        changes_weights=False,
    )
    log_with: Tracker = option(
        Tracker.NONE,
        "Also send metrics to this tracker.",
        is_on_command_line=False,
        changes_weights=False,
    )
    save_dtype: SaveDtype = option(
        SaveDtype.FLOAT32, "Dtype of the published weights.", is_for_banks=False
    )
    cache_latents: bool = option(
        False, "Encode each image once and keep its latents on disk.", is_on_command_line=False
    )
    skip_bad: bool = option(
        False,
        "Skip images that cannot be used, instead of stopping.",
        # the digest of the data already tells which images were skipped
        changes_weights=False,
    )

    def __post_init__(self) -> None:
        """Raise UsageError for invalid values."""
        if issues := [Issue(text) for text in _problems(self)]:
            raise UsageError.collected(issues)

    @property
    def numbers(self) -> dict[str, str]:
        """The options that change the trained weights, as texts by name."""
        names = {name for name, info in options_of(Options).items() if info.changes_weights}
        # a run with a constant rate can be extended
        names -= {"steps"} if self.lr_schedule is Schedule.CONSTANT else set()
        return {name: _text(getattr(self, name)) for name in sorted(names)}


FINETUNE = CommandOptions((Options,))
"""The options of `soupctl finetune`."""

LARGEST_RATE = 1e38
"""Largest learning rate; a larger one overflows when weights are updated."""


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _problems(options: Options) -> Iterator[str]:
    if options.steps is not None and options.epochs is not None:
        yield "--steps and --epochs exclude each other: give one of them"
    yield from out_of_bounds(options)
    if LARGEST_RATE < options.lr < float("inf"):
        yield f"--lr must be at most {LARGEST_RATE:g}, not {options.lr}"
    if options.cache_latents and options.random_crop:
        yield "cache-latents and random-crop exclude each other: a cached crop is never drawn"
    if unreadable := [text for text in (*options.prompt, *options.classes) if not _is_utf8(text)]:
        yield f"{unreadable[0]!r} is not valid UTF-8"
    if len(set(options.classes)) != len(options.classes):
        yield "classes in --config contains a name twice"


def _is_utf8(text: str) -> bool:
    """Whether a text of the command line was valid UTF-8, which a tokenizer needs."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
