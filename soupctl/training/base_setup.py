"""What all runs of a command stand on: a base and the options, found to fit each other.

Rule 1: no model is loaded, and nothing is read but configs and headers; the digests alone read all
of the weights, and come last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.hashing import content_digests
from ..checkpoints.unchanged import FileSnapshot
from ..choices import SaveDtype
from ..diffusion.base import (
    SCHEDULER,
    Base,
    Conditioning,
    choose_resolution,
    read_base,
    weight_dtypes,
)
from ..diffusion.loading import load_scheduler
from ..diffusion.objective import Objective, objective_of
from ..diffusion.sampling import require_steps
from ..errors import Issue, UsageError
from ..format.dtypes import DType
from .bank_options import PatchOptions
from .bank_plan import BankPlan, plan_bank
from .export import base_files
from .loader import Frame
from .options import Options


@dataclass(frozen=True, slots=True)
class BaseSetup:
    """A base, and what the options make of it."""

    base: Base
    options: Options
    frame: Frame
    scheduler: Any
    objective: Objective
    bank: BankPlan | None
    """The prompt bank that is to be trained; None to train the denoiser itself."""
    files: tuple[FileSnapshot, ...]
    """The base's files as they were before their digests were computed."""

    @property
    def notices(self) -> Iterator[str]:
        """What a person should know of before it begins."""
        if self.base.learns_variance:
            yield "the base predicts variances as well, which are not trained"
        if self.base.config.get("dropout"):
            yield f"the base's dropout ({self.base.config['dropout']}) is left out of training"
        if not (self.base.folder / SCHEDULER).is_dir():
            yield "the base has no scheduler: noise levels are those of DDPM's paper"
        if any(kind is not DType.F32 for kind in weight_dtypes(self.base)):
            yield "the base's weights are made float32 for training"
        if self.bank is not None:
            yield from self.bank.notices


def read_ground(folder: Path, options: Options, patch: PatchOptions | None) -> BaseSetup:
    """The ground of runs from the base in a folder.

    Raises SoupError of every kind, with the way out: see the functions that it calls.
    """
    base = read_base(folder)
    files = tuple(map(FileSnapshot.take, base_files(base)))
    _require_sensible(base, options, patch)
    resolution = choose_resolution(base, options.resolution)
    scheduler = load_scheduler(base)
    objective = objective_of(scheduler, options.prediction, options.snr_gamma)
    if options.sample_every:
        require_steps(scheduler, objective, options.sample_steps, str(folder))
    side = resolution // base.scale
    frame = Frame(
        resolution,
        base.pixel_channels,
        (base.channels, side, side),
        base.vae is not None,
        objective.timesteps,
    )
    bank = None if patch is None else plan_bank(patch, base, side, objective)
    return BaseSetup(base, options, frame, scheduler, objective, bank, files)


def _require_sensible(base: Base, options: Options, patch: PatchOptions | None) -> None:
    """Raise UsageError for options that this base, or a bank, has no use for."""
    issues = []
    if patch is not None and options.save_dtype is not SaveDtype.FLOAT32:
        issues.append(Issue("save-dtype is for finetune: a bank is float32"))
    if options.cache_latents and base.vae is None:
        issues.append(Issue("cache-latents is for bases with a vae", base.folder))
    if options.prompt and base.conditioning is not Conditioning.TEXT:
        issues.append(Issue("--prompt is for bases that are told captions", base.folder))
    if options.classes and base.conditioning is not Conditioning.LABEL:
        issues.append(Issue("classes are for bases that are told classes", base.folder))
    if issues:
        raise UsageError.collected(issues)


def base_digests(base: Base) -> dict[str, str]:
    """Content digests of a base by component, that of a bare denoiser under no name."""
    found = content_digests(base.folder)
    names = [Path(each.path).name if base.components else "" for each in found]
    return {name: each.digest for name, each in zip(names, found, strict=True)}
