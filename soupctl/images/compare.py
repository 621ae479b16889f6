"""Images from checkpoints on disk, side by side: several models, with and without prompt banks.

Rule 1: image i of every model starts from the same noise and has the same prompt or class, so that
images differ by the models alone.
Rule 2: everything that configs reveal is refused before a model is loaded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..banks.attachment import attach
from ..banks.bank import PromptBank
from ..banks.blocks import describe_base
from ..banks.compatibility import require_fit
from ..banks.config import BankConfig
from ..banks.load import load_bank_or_stack, members_of
from ..banks.stack import BankStack
from ..checkpoints.hashing import content_digests
from ..diffusion.base import Base, Conditioning, choose_resolution
from ..diffusion.base_reader import read_base
from ..diffusion.families.family import Condition, Frame
from ..diffusion.families.flux import FLUX
from ..diffusion.flow import TrainingObjective, own_objective
from ..diffusion.loading import (
    Models,
    decode_latents,
    empty_model,
    encode_captions,
    encode_nothing,
    load_models,
    load_scheduler,
)
from ..diffusion.null_class import null_class
from ..diffusion.published_configs import DIT
from ..diffusion.rehearsal import rehearse
from ..diffusion.sampling import Sampler, initial_noise, require_steps, sample, sampler_of
from ..diffusion.single_file import is_single_file
from ..errors import InputError, MismatchError, UsageError
from ..ledger.names import unique_names
from .request import FLUX_GUIDANCE, GUIDANCE, BankUse, SampleRequest

BATCH, MOST = 8, 256
"""The least and the most images in one batch."""
FILLED = BATCH * 4 * 64 * 64
"""Numbers of the denoiser's input up to which a batch has more images than the least."""

OnStep = Callable[[int, int], None]
"""Called after each denoising step with the steps done and the steps of all models together."""


@dataclass(frozen=True, slots=True)
class ModelImages:
    """The images of one model."""

    name: str
    """The name of the checkpoint, and of the bank that was attached to it."""
    images: torch.Tensor
    """[N, C, H, W] in [-1, 1], on the CPU."""
    labels: tuple[str, ...]
    """Prompt or class of each image; none for models that take neither."""
    notice: str = ""
    """A remark for the user."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint with its configs read and checked; its weights are not loaded yet."""

    name: str
    base: Base
    scheduler: Any
    objective: TrainingObjective
    side: int
    """Height and width of the denoiser's input."""
    labels: tuple[int, ...]
    """Classes in the order of the images; empty for models without classes."""
    null: int | None
    """The null class; None if it is not known that the model has one."""
    guidance: float

    @property
    def batch(self) -> int:
        """The number of images in one batch: small images are many, which takes less time."""
        numbers = self.base.channels * self.side**2
        return min(max(BATCH, FILLED // numbers), MOST)


def sample_models(
    folders: Sequence[Path],
    banks: Sequence[Path],
    request: SampleRequest,
    device: torch.device,
    use: BankUse | None = None,
    on_step: OnStep = lambda _done, _total: None,
) -> Iterator[ModelImages]:
    """The images of each checkpoint, alone and then with each bank or stack of banks.

    Raises SoupError for what cannot be loaded, MismatchError for what does not fit.
    """
    use = use or BankUse()
    if request.config_from is not None and not any(map(is_single_file, folders)):
        what = "--config-from is for single files, and no model is one"
        raise UsageError(what, advice="remove --config-from")
    names = unique_names([os.path.abspath(each) for each in folders])
    models = [_read_model(*each, request) for each in zip(names, folders, strict=True)]
    titles = unique_names([os.path.abspath(each) for each in banks])
    loaded = {
        title: load_bank_or_stack(each).to(device)
        for title, each in zip(titles, banks, strict=True)
    }
    for model in models:
        _require_banks_fit(model, loaded, use)
    count_step = _step_counter(models, 1 + len(loaded), request, on_step)
    for model in models:
        yield from _images_of_model(model, loaded, request, device, use, count_step)


def _step_counter(
    models: Sequence[LoadedModel], variants: int, request: SampleRequest, on_step: OnStep
) -> Callable[[], None]:
    """A function to call after each denoising step of any of these models, in so many variants."""
    batches = sum(math.ceil(request.images / each.batch) for each in models)
    total, done = variants * batches * request.steps, 0

    def count() -> None:
        nonlocal done
        done += 1
        on_step(done, total)

    return count


def _read_model(name: str, folder: Path, request: SampleRequest) -> LoadedModel:
    configs = request.config_from if is_single_file(folder) else None
    base = read_base(folder, request.variant, configs)
    scheduler = load_scheduler(base)
    objective = own_objective(scheduler, is_flow=base.family.is_flow)
    side = choose_resolution(base, request.resolution) // base.scale
    rehearse(base, side, scheduler, objective)
    require_steps(scheduler, objective, request.steps, str(folder))
    labels, null = _labels(base, request)
    guidance = _default_guidance(base) if request.guidance is None else request.guidance
    if labels and null is None:
        guidance = 1.0
    return LoadedModel(name, base, scheduler, objective, side, labels, null, guidance)


def _default_guidance(base: Base) -> float:
    """The guidance scale of a base's images: that of diffusers for Flux, which trains without."""
    if base.family is not FLUX:
        return GUIDANCE
    return FLUX_GUIDANCE if base.embeds_guidance else 1.0


def _labels(base: Base, request: SampleRequest) -> tuple[tuple[int, ...], int | None]:
    """The classes that images show, and the null class.

    Raises UsageError for prompts or classes that the model does not take, or lacks, MismatchError
    for classes out of range.
    """
    if request.prompts and base.conditioning is not Conditioning.TEXT:
        raise UsageError("this model takes no captions", path=base.given, advice="remove --prompt")
    if base.conditioning is Conditioning.TEXT and not request.prompts:
        raise UsageError("this model takes captions", path=base.given, advice="add --prompt TEXT")
    if base.conditioning is not Conditioning.LABEL:
        for option, value in (("--class", request.classes), ("--null-class", request.null_class)):
            if value not in ((), None):
                what = "this model takes no classes"
                raise UsageError(what, path=base.given, advice=f"remove {option}")
        return (), None
    null = null_class(base) if request.null_class is None else request.null_class
    every = range(base.embeddings)
    if null is not None and null not in every:
        what = f"this model has classes 0 to {base.embeddings - 1}, but --null-class is {null}"
        raise MismatchError(what, path=base.given)
    if null is None and request.guidance not in (None, 1):
        what = "--guidance needs the null class, which is not known for this model"
        raise MismatchError(
            what, path=base.given, advice="give it with --null-class, or leave out --guidance"
        )
    # without guidance, the null class can be sampled; a DiT has one embedding more than its config
    # says
    is_shown = null is None or (request.guidance == 1 and base.class_name != DIT)
    known = [each for each in every if is_shown or each != null]
    if unknown := [each for each in request.classes if each not in known]:
        last = f"{known[0]} to {known[-1]}" if known else "no class to sample"
        what = f"this model has classes {last}, but --class is {unknown[0]}"
        raise MismatchError(what, path=base.given)
    return request.classes or tuple(known), null


def _require_banks_fit(
    model: LoadedModel, banks: Mapping[str, PromptBank | BankStack], use: BankUse
) -> None:
    """Raise MismatchError for a bank of another base or size, unless `use` allows it."""
    digest = None
    if banks and not use.allow_base_mismatch:
        base = model.base
        digest = content_digests(base.denoiser_folder, variant=base.files.variant)[0].digest
    for title, bank in banks.items():
        configs = [
            (f"{title}/{member.name}" if member.name else title, member.bank.config)
            for member in members_of(bank)
        ]
        _require_fits(model, configs, digest, use)


def _require_fits(
    model: LoadedModel,
    configs: Sequence[tuple[str, BankConfig]],
    digest: str | None,
    use: BankUse,
) -> None:
    """Raise MismatchError for a bank, or a stack's banks, by name; all have one sample size."""
    own, side = configs[0][1].base.sample_size, (model.side, model.side)
    found = describe_base(
        empty_model(model.base),
        sample_size=own,
        num_train_timesteps=model.objective.timesteps,
        prediction_type=model.objective.prediction.value,
        digest=digest,
    )
    for name, config in configs:
        require_fit(config, found, name, allow_base_mismatch=use.allow_base_mismatch)
    if own != side and not use.resize_prompts:
        trained, asked = (
            " by ".join(str(each * model.base.scale) for each in size) for size in (own, side)
        )
        what = f"was trained for images of {trained} pixels, and these are {asked}"
        raise MismatchError(what, path=configs[0][0], advice="--resize-prompts")


def _images_of_model(
    model: LoadedModel,
    banks: Mapping[str, PromptBank | BankStack],
    request: SampleRequest,
    device: torch.device,
    use: BankUse,
    count_step: Callable[[], None],
) -> Iterator[ModelImages]:
    """The images of one checkpoint, alone and then with each bank."""
    models = load_models(model.base)
    for part in (models.denoiser, *models.frozen):
        part.to(device)
    labels = _image_labels(model, request)
    notice = ""
    if model.labels and model.null is None:
        notice = "sampled without guidance: its null class is not known"
    own = _images(model, models, request, device, count_step)
    yield ModelImages(model.name, own, labels, notice)
    side = (model.side, model.side) if use.resize_prompts else None
    for title, bank in banks.items():
        with attach(
            models.denoiser,
            bank,
            allow_base_mismatch=use.allow_base_mismatch,
            resize_prompts_to=side,
        ):
            images = _images(model, models, request, device, count_step)
        yield ModelImages(f"{model.name} + {title}", images, labels)


def _image_labels(model: LoadedModel, request: SampleRequest) -> tuple[str, ...]:
    """The prompt or class of each image, in words; none for models that take neither."""
    texts = request.prompts or [f"class {label}" for label in model.labels]
    return tuple(texts[number % len(texts)] for number in range(request.images)) if texts else ()


def _images(
    model: LoadedModel,
    models: Models,
    request: SampleRequest,
    device: torch.device,
    count_step: Callable[[], None],
) -> torch.Tensor:
    """Images [N, C, H, W], each from noise of its own; InputError if one is not finite."""
    shape = (model.base.channels, model.side, model.side)
    scheduler = sampler_of(model.scheduler, model.objective, is_clipped=model.base.is_clipped)
    sampler = Sampler(models.denoiser, model.base, scheduler, request.steps, model.guidance)
    images = []
    for start in range(0, request.images, model.batch):
        numbers = range(start, min(start + model.batch, request.images))
        noise = [initial_noise(shape, request.seed, f"image {number}") for number in numbers]
        condition, unconditional = _conditions(model, models, request, numbers)
        latents = sample(
            sampler, torch.stack(noise).to(device), condition, unconditional, count_step
        )
        if not bool(latents.isfinite().all()):
            what = "its images hold NaN or infinity"
            raise InputError(what, path=model.name, advice="try a --guidance nearer to 1")
        images.append(decode_latents(models, latents).cpu())
    return torch.cat(images)


def _conditions(
    model: LoadedModel, models: Models, request: SampleRequest, numbers: range
) -> tuple[Condition, Condition | None]:
    """The conditions of the images with these numbers, and as many null conditions."""
    if request.prompts:
        texts = [request.prompts[number % len(request.prompts)] for number in numbers]
        side = model.side * model.base.scale
        frame = Frame.whole(len(texts), side, side)
        return (
            encode_captions(models, texts, frame, model.guidance),
            encode_nothing(models, len(texts), frame, model.guidance),
        )
    if not model.labels:
        return {}, None
    labels = [model.labels[number % len(model.labels)] for number in numbers]
    classes = torch.tensor(labels, device=models.denoiser.device)
    null = None if model.null is None else torch.full_like(classes, model.null)
    return {"class_labels": classes}, None if null is None else {"class_labels": null}
