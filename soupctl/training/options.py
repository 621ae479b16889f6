"""What a training run is asked to do, checked before anything heavy is loaded.

Rule 1: an option either changes numbers, and is part of what tells one run from another, or it
changes only time and what is shown; `TIME_ONLY` lists the latter.
"""

from __future__ import annotations

import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..choices import Optimizer, Precision, Prediction, SaveDtype, Schedule, Tracker
from ..errors import InputError, Issue, UsageError
from ..storage.files import read_file


@dataclass(frozen=True, slots=True)
class Options:
    """A training run, but for its base, its data and its output.

    Raises UsageError, with all issues at once, for values that no run could have.
    """

    steps: int | None = None
    """Optimizer steps; either these or `epochs`."""
    epochs: int | None = None
    batch_size: int = 4
    """Images of one forward pass of one process."""
    grad_accum: int = 1
    """Forward passes of an optimizer step."""
    lr: float = 1e-5
    lr_schedule: Schedule = Schedule.CONSTANT
    warmup: int = 0
    """Optimizer steps until the learning rate is reached."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 for never."""
    resolution: int | None = None
    """Height and width in pixels; None for those of the base."""
    random_crop: bool = False
    flip: bool = False
    caption_column: str = "text"
    cond_drop: float = 0.1
    """Share of samples that are taught without their caption or class, for guidance."""
    classes: tuple[str, ...] = ()
    """Names of all classes of the base in order, where data has a few of them by name."""
    prediction: Prediction = Prediction.AUTO
    snr_gamma: float | None = None
    noise_offset: float = 0.0
    ema: bool = True
    ema_decay: float = 0.9999
    precision: Precision = Precision.NO
    grad_checkpointing: bool = False
    optimizer: Optimizer = Optimizer.ADAMW
    save_every: int = 500
    """Optimizer steps between checkpoints."""
    keep: int = 2
    """Newest checkpoints that are kept."""
    sample_every: int | None = None
    prompt: tuple[str, ...] = ()
    sample_grid: int = 4
    """Images a prompt or class in a grid."""
    sample_steps: int = 25
    guidance: float = 3.0
    seed: int = 0
    workers: int = 0
    log_every: int = 10
    log_with: Tracker = Tracker.NONE
    save_dtype: SaveDtype = SaveDtype.FLOAT32
    cache_latents: bool = False
    skip_bad: bool = False

    def __post_init__(self) -> None:
        """Refuse what no run could have, with all issues at once."""
        if issues := [Issue(text) for text in _problems(self)]:
            raise UsageError.collected(issues)

    @property
    def numbers(self) -> dict[str, str]:
        """The options that change numbers, as texts by name; equal ones train alike."""
        skipped = TIME_ONLY | ({"steps"} if self.lr_schedule is Schedule.CONSTANT else set())
        return {
            each.name: _text(getattr(self, each.name))
            for each in sorted(fields(self), key=lambda each: each.name)
            if each.name not in skipped
        }


TIME_ONLY = frozenset(
    {
        "epochs",  # these become steps
        "grad_checkpointing",
        "guidance",
        "keep",
        "log_every",
        "log_with",
        "prompt",
        "sample_every",
        "sample_grid",
        "sample_steps",
        "save_every",
        "skip_bad",  # what is skipped is not in the digest of the data
        "workers",
    }
)
"""Names of the options that change no trained weight."""

AT_LEAST = {
    "steps": 1,
    "epochs": 1,
    "batch_size": 1,
    "grad_accum": 1,
    "warmup": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "resolution": 1,
    "noise_offset": 0,
    "save_every": 1,
    "keep": 1,
    "sample_every": 1,
    "sample_grid": 1,
    "sample_steps": 1,
    "seed": 0,
    "workers": 0,
    "log_every": 1,
}


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


COMMON = frozenset(
    {
        "batch_size",
        "cond_drop",
        "ema",
        "epochs",
        "grad_accum",
        "lr",
        "lr_schedule",
        "precision",
        "prompt",
        "resolution",
        "sample_every",
        "save_dtype",
        "save_every",
        "seed",
        "skip_bad",
        "steps",
    }
)
"""Names of the options that the command line has; the others are in a config alone."""


def option_name(field: str) -> str:
    """How a person sets an option: `--lr`, or `warmup in --config`."""
    dashed = field.replace("_", "-")
    return f"--{dashed}" if field in COMMON else f"{dashed} in --config"


LARGEST_RATE = 1e38
"""Of learning rates; a larger one overflows where weights are updated."""


def _problems(options: Options) -> Iterator[str]:
    if options.steps is not None and options.epochs is not None:
        yield "--steps and --epochs are both given: choose one"
    yield from _strange_numbers(options)
    if options.cache_latents and options.random_crop:
        yield "cache-latents and random-crop exclude each other: a cached crop is never drawn"
    if len(set(options.classes)) != len(options.classes):
        yield "a name occurs twice in classes"


def _strange_numbers(options: Options) -> Iterator[str]:
    for name, least in AT_LEAST.items():
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value >= least):
            yield f"{option_name(name)} is {value}, which is less than {least}"
    if not 0 < options.lr <= LARGEST_RATE:
        yield f"--lr is {options.lr}, which is not positive and at most {LARGEST_RATE:g}"
    if not 0 <= options.guidance < math.inf:
        what = f"is {options.guidance}, which is no number from 0 up"
        yield f"{option_name('guidance')} {what}"
    for name in ("cond_drop", "ema_decay"):
        value = getattr(options, name)
        if not 0 <= value <= 1:
            yield f"{option_name(name)} is {value}, which is not between 0 and 1"
    gamma = options.snr_gamma
    if gamma is not None and not (gamma > 0 and math.isfinite(gamma)):
        yield f"{option_name('snr_gamma')} is {gamma}, which is not positive (5 is usual)"


def read_config(path: Path, *others: type) -> dict[str, Any]:
    """The options in a TOML file, by field, of Options and of `others` beside it.

    Raises InputError for what is no TOML, UsageError for options that are unknown or malformed.
    """
    try:
        table = tomllib.loads(read_file(path).decode("utf-8"))
    except ValueError as error:
        raise InputError(f"is not valid TOML: {error}", path=path) from None
    return typed(table, path, *others)


def typed(table: Mapping[str, Any], source: Path, *others: type) -> dict[str, Any]:
    """The values of a TOML table as fields of Options, or of `others` beside it.

    Raises UsageError naming `source` if they are none.
    """
    kinds = {
        name: kind
        for owner in (Options, *others)
        for name, kind in typing.get_type_hints(owner).items()
    }
    found, issues = {}, []
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in kinds:
            issues.append(Issue(f"{key!r} is not an option", source))
            continue
        try:
            found[name] = _converted(kinds[name], value)
        except (TypeError, ValueError):
            issues.append(Issue(f"{key} = {value!r} is not {_kind_text(kinds[name])}", source))
    if issues:
        raise UsageError.collected(issues)
    return found


def _kinds_of(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _converted(kind: Any, value: Any) -> Any:
    """The value as a `kind`; TypeError or ValueError if it is none."""
    kind = _kinds_of(kind)[0]
    if typing.get_origin(kind) is tuple:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("a list of texts is meant")
        return tuple(texts)
    if issubclass(kind, StrEnum):
        return kind(value)
    # True is an int to Python, and 1 is a fine float
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:
        raise TypeError("another type is meant")
    return kind(value)


def _kind_text(kind: Any) -> str:
    kind = _kinds_of(kind)[0]
    if typing.get_origin(kind) is tuple:
        return "a list of texts"
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
