"""A run before its first step: base, data and options looked at, and found to fit each other.

Rule 1: nothing is written, and no model is loaded, before all that can be refused was refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import torch

from .. import verbs
from ..errors import Issue, LimitError, UsageError
from ..format.dtypes import DType
from ..models.bases import (
    SCHEDULER,
    TEXT_ENCODER,
    VAE,
    Base,
    Conditioning,
    choose_resolution,
    config_digest,
    parameter_counts,
    read_base,
    weight_dtypes,
)
from ..models.loading import load_scheduler
from ..models.objective import Objective, objective_of
from .choices import Precision, SaveDtype, Tracker
from .data import DataShard, counted, scan, small
from .examples import Frame
from .labels import Classes, number_classes
from .options import Options
from .output import copied_size
from .patching_options import PatchOptions
from .patching_plan import BankPlan, plan_bank
from .plans import Plan, checkpoint_size, count_steps, result_size


@dataclass(frozen=True, slots=True)
class Request:
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

    request: Request
    base: Base
    digests: dict[str, str]
    """Content digests of the base by component."""
    shard: DataShard
    classes: Classes | None
    frame: Frame
    scheduler: Any
    objective: Objective
    accelerator: Any
    plan: Plan
    bank: BankPlan | None = None

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
        }


def prepare(request: Request, accelerator: Any) -> Prepared:
    """The run that is asked for, on what `start_accelerator` gave.

    Raises SoupError of every kind, with the way out: see the functions that it calls.
    """
    options = request.options
    base = read_base(request.base)
    _require_sensible(base, request)
    resolution = choose_resolution(base, options.resolution)
    scheduler = load_scheduler(base)
    objective = objective_of(scheduler, options.prediction, options.snr_gamma)
    shard = scan(
        request.data,
        base.conditioning,
        column=options.caption_column,
        skip_bad=options.skip_bad,
    )
    classes = _classes(base, shard, options)
    side = resolution // base.scale
    frame = Frame(
        resolution,
        base.pixel_channels,
        (base.channels, side, side),
        base.vae is not None,
        objective.timesteps,
    )
    bank = None if request.patch is None else plan_bank(request.patch, base, side, objective)
    plan = _plan(request, base, shard, classes, frame, objective, accelerator, bank)
    found = verbs.content_digests(base.folder)
    names = [Path(each.path).name if base.components else "" for each in found]
    digests = {name: each.digest for name, each in zip(names, found, strict=True)}
    return Prepared(
        request,
        base,
        digests,
        shard,
        classes,
        frame,
        scheduler,
        objective,
        accelerator,
        plan,
        None if bank is None else bank.on(digests[base.denoiser]),
    )


def _require_sensible(base: Base, request: Request) -> None:
    """Raise UsageError for options that this base, or a bank, has no use for."""
    options, issues = request.options, []
    if request.patch is not None and options.save_dtype is not SaveDtype.FLOAT32:
        issues.append(Issue("save-dtype is for finetune: a bank is float32"))
    if options.cache_latents and base.vae is None:
        issues.append(Issue("cache-latents is for bases with a vae", base.folder))
    if options.prompt and base.conditioning is not Conditioning.TEXT:
        issues.append(Issue("--prompt is for bases that are told captions", base.folder))
    if options.classes and base.conditioning is not Conditioning.LABEL:
        issues.append(Issue("classes are for bases that are told classes", base.folder))
    if issues:
        raise UsageError.collected(issues)


def _classes(base: Base, shard: DataShard, options: Options) -> Classes | None:
    if base.conditioning is not Conditioning.LABEL:
        return None
    labels = [sample.label for sample in shard.samples if sample.label is not None]
    # a DiT always has an embedding for samples without a class
    with_null = options.cond_drop > 0 or base.class_name == "DiTTransformer2DModel"
    return number_classes(
        labels, options.classes, base.embeddings, with_null=with_null, path=shard.folder
    )


def start_accelerator(options: Options) -> Any:
    """What accelerate found: devices, processes, precision; LimitError for what is not to be had.

    One process, or one of those that `accelerate launch` or `torchrun` started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # what an earlier caller in this process asked for is no longer wanted
        accelerate.state.AcceleratorState._reset_state()  # noqa: SLF001
    log_with = None if options.log_with is Tracker.NONE else options.log_with.value
    if log_with is not None and not _is_there(log_with):
        what = f"log-with in --config needs {log_with}, which is not installed"
        raise LimitError(what, advice=f"pip install {log_with}")
    try:
        accelerator = accelerate.Accelerator(
            # of torchrun's processes, accelerate would otherwise take each for the only one
            cpu=not torch.accelerator.is_available(),
            gradient_accumulation_steps=options.grad_accum,
            mixed_precision=options.precision.value,
            log_with=log_with,
        )
    except (ValueError, ImportError) as error:
        advice = "--precision bf16 or no" if options.precision is Precision.FP16 else None
        raise LimitError(str(error).strip().splitlines()[0], advice=advice) from error
    kind = accelerator.distributed_type
    sharded = (accelerate.DistributedType.FSDP, accelerate.DistributedType.DEEPSPEED)
    if kind in sharded:
        raise LimitError(
            f"{kind.value} is not supported yet: the weights are in parts",
            advice="choose plain data-parallel training in accelerate's configuration",
        )
    return accelerator


def _is_there(tracker: str) -> bool:
    return any(tracker == each.value for each in accelerate.tracking.get_available_trackers())


def _plan(
    request: Request,
    base: Base,
    shard: DataShard,
    classes: Classes | None,
    frame: Frame,
    objective: Objective,
    accelerator: Any,
    bank: BankPlan | None,
) -> Plan:
    options, images = request.options, len(shard.samples)
    counts = parameter_counts(base)
    whole = counts[base.denoiser]
    trained = whole if bank is None else bank.trained
    processes = accelerator.num_processes
    steps = count_steps(options, images, processes)
    global_batch = options.batch_size * options.grad_accum * processes
    checkpoint = checkpoint_size(trained, options)
    result = result_size(trained, copied_size(base) if bank is None else 0, options)
    return Plan(
        base=str(base.folder),
        class_name=base.class_name,
        data=str(shard.folder),
        output=str(request.output),
        images=images,
        captions=sum(len(sample.captions) for sample in shard.samples),
        classes=len(classes.numbers) if classes else 0,
        data_digest=shard.digest,
        resolution=frame.resolution,
        prediction=objective.prediction.value,
        steps=steps,
        epochs=steps * global_batch / images,
        batch_size=options.batch_size,
        grad_accum=options.grad_accum,
        processes=processes,
        trained=trained,
        frozen=counts.get(VAE, 0) + counts.get(TEXT_ENCODER, 0) + (0 if bank is None else whole),
        device=str(accelerator.device),
        precision=options.precision.value if options.precision is not Precision.NO else "fp32",
        checkpoint_bytes=checkpoint,
        model_bytes=result,
        disk_bytes=(options.keep + 1) * checkpoint + result,
        notices=(
            *_notices(base, shard, frame.resolution),
            *(() if bank is None else bank.notices),
        ),
    )


def _notices(base: Base, shard: DataShard, resolution: int) -> Iterator[str]:
    """What a person should know of before it begins."""
    yield from shard.notices
    if enlarged := small(shard.samples, resolution):
        yield f"{counted(enlarged, 'image')} smaller than {resolution}, enlarged"
    if base.learns_variance:
        yield "the base predicts variances as well, which are not trained"
    if not (base.folder / SCHEDULER).is_dir():
        yield "the base has no scheduler: noise levels are those of DDPM's paper"
    if any(kind is not DType.F32 for kind in weight_dtypes(base)):
        yield "the base's weights are made float32 for training"
