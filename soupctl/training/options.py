"""Options of a training run, checked before anything heavy is imported.

Rule 1: an option either changes the trained weights, and is part of a run's identity, or it changes
only time and what is shown: its field says which (`changes_weights`).
Rule 2: the fields are in the order of `--help`; each group of options extends the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from ..choices import SaveAs, SaveDtype, Schedule, Tracker
from ..errors import Issue, UsageError
from ..frozen import frozen
from .flow_options import FlowOptions
from .memory_options import track_problems
from .option_fields import (
    AT_LEAST_0,
    AT_LEAST_1,
    BATCH,
    PROCESSES,
    SEED,
    CommandOptions,
    option,
    options_of,
    out_of_bounds,
    shown_value,
)


@frozen
class Options(FlowOptions):
    """The options of a training run; base, data and output are given elsewhere.

    Raises UsageError, with all issues at once, for invalid values.
    """

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
    save_as: SaveAs = option(
        SaveAs.FOLDER,
        "Also publish the model as one file, for ComfyUI.",
        is_for_banks=False,
        changes_weights=False,
    )
    cache_latents: bool = option(
        False, "Encode each image once and keep its latents on disk.", is_on_command_line=False
    )
    cache_texts: bool = option(
        False,
        "Encode each caption once, keep that on disk, and free the text encoders.",
        is_on_command_line=False,
        is_recorded_unset=False,
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
        defaults = {each.name: each.default for each in fields(Options)}
        names = {
            name
            for name, info in options_of(Options).items()
            if info.changes_weights
            and (info.is_recorded_unset or getattr(self, name) != defaults[name])
        }
        # a run with a constant rate can be extended
        names -= {"steps"} if self.lr_schedule is Schedule.CONSTANT else set()
        return {name: _text(getattr(self, name)) for name in sorted(names)}


FINETUNE = CommandOptions((Options,))
"""The options of `soupctl finetune`."""

LARGEST_RATE = 1e38
"""Largest learning rate; a larger one overflows when weights are updated."""


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _problems(options: Options) -> Iterator[str]:
    if options.steps is not None and options.epochs is not None:
        yield "--steps and --epochs exclude each other: give one of them"
    if options.validate is not None and options.validate_share is not None:
        yield "--validate and --validate-share exclude each other: give one of them"
    if options.buckets and options.regularization is not None:
        yield "--buckets and --regularization exclude each other: images of a batch have one size"
    yield from out_of_bounds(options)
    if LARGEST_RATE < options.lr < float("inf"):
        yield f"--lr must be at most {LARGEST_RATE:g}, not {options.lr}"
    try:
        _ = options.timestep_range
    except ValueError:
        shown = shown_value(repr(options.timesteps))
        yield f"--timesteps must be LO:HI with LO below HI, such as 0:250, not {shown}"
    yield from track_problems(options)
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
