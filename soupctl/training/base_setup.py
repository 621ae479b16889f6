"""The setup that all runs of one command share: a base, and options that fit it.

Rule 1: no model is loaded, and only configs and headers are read; the digests, which read all
weights, are computed separately and last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..choices import Prediction, SaveAs, SaveDtype
from ..diffusion.base import (
    SCHEDULER,
    Base,
    Conditioning,
    choose_resolution,
)
from ..diffusion.base_reader import read_base
from ..diffusion.flow import TrainingObjective, flow_objective
from ..diffusion.loading import load_scheduler
from ..diffusion.objective import objective_of
from ..diffusion.rehearsal import rehearse
from ..diffusion.sampling import require_steps
from ..diffusion.single_file import assumes_v_prediction, require_single_file
from ..diffusion.weights import weight_dtypes
from ..errors import Issue, UsageError
from ..format.dtypes import DType
from .bank_options import PatchOptions
from .bank_plan import BankPlan, plan_bank
from .buckets import bucket_sizes
from .loader import InputSpec
from .memory_options import memory_conflicts
from .options import Options


@dataclass(frozen=True, slots=True)
class BaseSetup:
    """A base with the options, and values derived from both."""

    base: Base
    options: Options
    input_spec: InputSpec
    scheduler: Any
    objective: TrainingObjective
    bank: BankPlan | None
    """The prompt bank to train; None to train the denoiser."""

    @property
    def notices(self) -> Iterator[str]:
        """Remarks about the base for the user."""
        for name in self.base.left_out:
            yield f"{name} is left out: training starts from {self.base.denoiser}"
        if self.base.learns_variance:
            yield "the variances that the base predicts are not trained"
        if self.base.config.get("dropout"):
            yield f"the base's dropout ({self.base.config['dropout']}) is not used in training"
        if SCHEDULER not in self.base.configs:
            yield "the base has no scheduler: the noise schedule of the DDPM paper is used"
        if self.options.prediction is Prediction.AUTO and assumes_v_prediction(self.base):
            what = "the file does not say what the model predicts, and v is assumed"
            yield f"{what} (prediction = epsilon in --config changes that)"
        if any(kind is not DType.F32 for kind in weight_dtypes(self.base)):
            yield "the base's weights are converted to float32 for training"
        trained = self.input_spec.timesteps
        if len(trained) < self.objective.timesteps:
            yield f"only the timesteps from {trained[0]} to {trained[-1]} are trained"
        if self.bank is not None:
            yield from self.bank.notices


def read_base_setup(
    folder: Path,
    options: Options,
    patch: PatchOptions | None,
    variant: str | None = None,
    config_from: str | Path | None = None,
) -> BaseSetup:
    """The setup for the base in a folder or single file; see `read_base`.

    Raises InputError, MismatchError or UsageError if the base cannot be trained with the options.
    """
    base = read_base(folder, variant, config_from)
    _require_usable_options(base, options, patch)
    if options.save_as is SaveAs.SINGLE_FILE:
        require_single_file(base.folder, variant)
    resolution = choose_resolution(base, options.resolution)
    scheduler = load_scheduler(base)
    objective = _objective(base, scheduler, options)
    resolutions = _resolutions(base, resolution, options)
    side = resolution // base.scale
    for each in resolutions:
        rehearse(base, each // base.scale, scheduler, objective)
    if options.sample_every:
        require_steps(scheduler, objective, options.sample_steps, str(folder))
    sizes = (bucket_sizes(each, base.size_unit, base.longest_side) for each in resolutions)
    input_spec = InputSpec(
        resolution,
        base.pixel_channels,
        (base.channels, side, side),
        base.vae is not None,
        _timesteps(options, objective, folder),
        tuple(sizes) if options.buckets else (),
        base.family.is_flow,
    )
    bank = None if patch is None else plan_bank(patch, base, side, objective)
    return BaseSetup(base, options, input_spec, scheduler, objective, bank)


def _objective(base: Base, scheduler: Any, options: Options) -> TrainingObjective:
    """The objective of a base and its scheduler with the options."""
    if not base.family.is_flow:
        return objective_of(scheduler, options.prediction, options.snr_gamma)
    preconditioned = options.precondition_outputs
    return flow_objective(
        scheduler, options.weighting, options.shift, is_preconditioned=preconditioned
    )


def _resolutions(base: Base, resolution: int, options: Options) -> list[int]:
    """The resolution of a run and those of further buckets, ascending; MismatchError for others."""
    option = "bucket-resolutions in --config"
    more = (choose_resolution(base, each, option) for each in options.bucket_resolutions)
    return sorted({resolution, *more})


def _timesteps(options: Options, objective: TrainingObjective, folder: Path) -> range:
    """The timesteps to train on; UsageError for a range that the base does not have."""
    chosen, most = options.timestep_range, objective.timesteps
    if chosen is None:
        return range(most)
    if chosen[1] > most:
        what = f"has timesteps from 0 to {most - 1}, but --timesteps is {options.timesteps}"
        raise UsageError(what, path=folder, advice=f"--timesteps {min(chosen[0], most - 1)}:{most}")
    return range(*chosen)


def _require_usable_options(base: Base, options: Options, patch: PatchOptions | None) -> None:
    """Raise UsageError for options that this base, or a bank, cannot use."""
    issues = []
    if patch is not None and options.save_dtype is not SaveDtype.FLOAT32:
        issues.append(Issue("save-dtype works with finetune only: a bank is float32"))
    if patch is not None and options.train_text_encoder:
        issues.append(Issue("train-text-encoder works with finetune only"))
    elif options.train_text_encoder and base.conditioning is not Conditioning.TEXT:
        issues.append(
            Issue("has no text encoder", base.given, advice="remove --train-text-encoder")
        )
    if options.bucket_resolutions and not options.buckets:
        issues.append(Issue("bucket-resolutions in --config needs --buckets"))
    if patch is not None and options.buckets:
        issues.append(Issue("buckets work with finetune only: a bank has one image size"))
    if options.buckets and base.class_name == "DiTTransformer2DModel":
        issues.append(
            Issue("supports only images of one size", base.given, advice="remove --buckets")
        )
    issues += _options_of_the_other_training(base, options)
    issues += _without_single_file(base, options, patch)
    issues += map(Issue, memory_conflicts(options))
    issues += _without_cache(base, options)
    if options.prompt and base.conditioning is not Conditioning.TEXT:
        issues.append(Issue("is not text-conditional", base.given, advice="remove --prompt"))
    if options.classes and base.conditioning is not Conditioning.LABEL:
        issues.append(
            Issue("is not class-conditional", base.given, advice="remove classes from --config")
        )
    if issues:
        raise UsageError.collected(issues)


def _without_cache(base: Base, options: Options) -> Iterator[Issue]:
    """An issue for each cache that does not work with this base, or with another option."""
    if options.cache_latents and base.vae is None:
        yield Issue("has no vae, which cache-latents needs", base.given)
    if options.cache_texts and base.conditioning is not Conditioning.TEXT:
        advice = "remove cache-texts from --config"
        yield Issue("has no text encoder", base.given, advice=advice)
    elif options.cache_texts and options.train_text_encoder:
        yield Issue("cache-texts and --train-text-encoder exclude each other: give one of them")


def _without_single_file(base: Base, options: Options, patch: PatchOptions | None) -> list[Issue]:
    """An issue for a model that cannot be saved as the single file that the options ask for."""
    if options.save_as is SaveAs.FOLDER:
        return []
    if patch is not None:
        return [Issue("save-as works with finetune only")]
    if base.vae is not None and base.texts:
        return []
    advice = "remove --save-as, which is for SD 1.x, SD 2.x, SDXL and Flux"
    return [Issue("cannot be saved as a single file", base.given, advice=advice)]


def _options_of_the_other_training(base: Base, options: Options) -> list[Issue]:
    """An issue for an option that flow matching, or training with betas, does not have."""
    if base.family.is_flow:
        usual = options.prediction in (Prediction.AUTO, Prediction.FLOW)
        given = [] if usual else ["prediction"]
        given += [] if options.snr_gamma is None else ["snr-gamma"]
        what = "is trained by flow matching, which has no {}"
    else:
        given, what = list(options.set_for_flow), "is not trained by flow matching, and has no {}"
    advice = f"remove {given[0]} from --config" if given else None
    return [Issue(what.format(each), base.given, advice=advice) for each in given[:1]]
