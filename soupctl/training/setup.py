"""A run before its first step: base, data and options looked at, and found to fit each other.

Rule 1: nothing is written, and no model is loaded, before all that can be refused was refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.unchanged import FileSnapshot
from ..diffusion.base import Base, Conditioning, config_digest
from ..diffusion.objective import Objective
from ..errors import OutputError
from .bank_options import PatchOptions
from .bank_plan import BankPlan
from .base_setup import BaseSetup, base_digests, read_ground
from .dataset import Dataset, scan
from .distributed import is_deepspeed, require_whole, stage
from .labels import Classes, number_classes
from .loader import Frame
from .options import Options
from .plan import RunPlan, make_plan


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is asked for."""

    base: Path
    data: Path
    output: Path
    options: Options
    resume: str = "auto"
    """`auto`, `never`, or the path of a checkpoint."""
    command: str = "soupctl finetune"
    """What a person typed, to be told how to go on."""
    patch: PatchOptions | None = None
    """The prompt bank that is to be trained; None to train the denoiser itself."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can begin."""

    request: RunRequest
    base: Base
    digests: dict[str, str]
    """Content digests of the base by component."""
    shard: Dataset
    classes: Classes | None
    frame: Frame
    scheduler: Any
    objective: Objective
    accelerator: Any
    plan: RunPlan
    bank: BankPlan | None
    base_files: tuple[FileSnapshot, ...]
    """The base's files as they were before their digests were computed."""

    @property
    def options(self) -> Options:
        """The options of the run."""
        return self.request.options

    @property
    def recipe(self) -> dict[str, str]:
        """The options that change numbers, as they turned out."""
        numbers = self.options.numbers
        return {
            **numbers,
            **({} if self.request.patch is None else self.request.patch.numbers),
            # a schedule that ends depends on when it does, also where epochs were asked for
            **({"steps": str(self.plan.steps)} if "steps" in numbers else {}),
            "prediction": self.objective.prediction.value,
            "processes": str(self.plan.processes),
            "resolution": str(self.frame.resolution),
        }

    @property
    def identity(self) -> dict[str, str]:
        """What tells the run from another: all that changes a trained weight."""
        return {
            **self.recipe,
            **{f"base {name}".strip(): digest for name, digest in self.digests.items()},
            "base config": config_digest(self.base),
            "data": self.shard.digest,
            **({} if self.bank is None else self.bank.identity),
            # whose checkpoints nobody else can read
            **({"ZeRO": str(stage(self.accelerator))} if is_deepspeed(self.accelerator) else {}),
        }

    def require_unchanged_base(self) -> None:
        """Raise OutputError if a file of the base is another one than when the run began."""
        for file in self.base_files:
            if not file.identity.is_at(file.path):
                what = "changed after training began"
                advice = "put the old file back, and run the same command to resume"
                raise OutputError(what, path=file.path, advice=advice)


def prepare(requests: Sequence[RunRequest], accelerator: Any) -> list[Prepared]:
    """The runs that are asked for, on what `start_accelerator` gave.

    The requests are those of one command: they differ by data and output alone. Raises SoupError
    of every kind, with the way out: see the functions that it calls.
    """
    first = requests[0]
    require_whole(accelerator, first.options, patch=first.patch is not None)
    ground = read_ground(first.base, first.options, first.patch)
    shards = [_scan(ground.base, request) for request in requests]
    classes = [_classes(ground, shard) for shard in shards]
    plans = [
        make_plan(ground, shard, numbered, request.output, accelerator)
        for request, shard, numbered in zip(requests, shards, classes, strict=True)
    ]
    # this reads all weights, so it comes when nothing else can be refused, and once
    digests = base_digests(ground.base)
    bank = None if ground.bank is None else ground.bank.on(digests[ground.base.denoiser])
    return [
        Prepared(
            request,
            ground.base,
            digests,
            shard,
            numbered,
            ground.frame,
            ground.scheduler,
            ground.objective,
            accelerator,
            plan,
            bank,
            ground.files,
        )
        for request, shard, numbered, plan in zip(requests, shards, classes, plans, strict=True)
    ]


def _scan(base: Base, request: RunRequest) -> Dataset:
    options = request.options
    return scan(
        request.data,
        base.conditioning,
        column=options.caption_column,
        skip_bad=options.skip_bad,
    )


def _classes(ground: BaseSetup, shard: Dataset) -> Classes | None:
    base, options = ground.base, ground.options
    if base.conditioning is not Conditioning.LABEL:
        return None
    labels = [sample.label for sample in shard.samples if sample.label is not None]
    # a DiT always has an embedding for samples without a class
    with_null = options.cond_drop > 0 or base.class_name == "DiTTransformer2DModel"
    return number_classes(
        labels, options.classes, base.embeddings, with_null=with_null, path=shard.folder
    )
