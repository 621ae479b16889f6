"""Images from checkpoints on disk, side by side: several models, with and without prompt banks.

Rule 1: image i of every model starts from the same noise and has the same prompt or class, so that
images differ by the models alone.
Rule 2: everything that configs reveal is refused before a model is loaded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..banks.attachment import attach
from ..banks.bank import PromptBank
from ..banks.load import load_bank_or_stack
from ..banks.stack import BankStack
from ..diffusion.families.family import Condition, Frame
from ..diffusion.loading import (
    Models,
    decode_latents,
    encode_captions,
    encode_nothing,
    load_models,
)
from ..diffusion.memory import is_out_of_memory
from ..diffusion.sampling import Sampler, initial_noise, sample, sampler_of
from ..diffusion.single_file import assumes_v_prediction, is_single_file
from ..errors import InputError, LimitError, UsageError
from ..ledger.names import unique_names
from .checked_model import CheckedModel, check_model, require_banks_fit
from .request import BankUse, SampleRequest

BATCH, MOST = 8, 256
"""The least and the most images in one batch."""
ASSUMED = (
    "the file does not say what the model predicts, and v is assumed"
    " (--config-from with a pipeline changes that)"
)
"""The remark about a single file of SD 2.x that says nothing of its prediction."""
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
    models = [check_model(*each, request) for each in zip(names, folders, strict=True)]
    titles = unique_names([os.path.abspath(each) for each in banks])
    loaded = {
        title: load_bank_or_stack(each).to(device)
        for title, each in zip(titles, banks, strict=True)
    }
    for model in models:
        require_banks_fit(model, loaded, use)
    count_step = _step_counter(models, 1 + len(loaded), request, on_step)
    for model in models:
        yield from _images_of_model(model, loaded, request, device, use, count_step)


def _step_counter(
    models: Sequence[CheckedModel], variants: int, request: SampleRequest, on_step: OnStep
) -> Callable[[], None]:
    """A function to call after each denoising step of any of these models, in so many variants."""
    batches = sum(math.ceil(request.images / _batch_of(each)) for each in models)
    total, done = variants * batches * request.steps, 0

    def count() -> None:
        nonlocal done
        done += 1
        on_step(done, total)

    return count


def _batch_of(model: CheckedModel) -> int:
    """The number of images in one batch: small images are many, which takes less time."""
    numbers = model.base.channels * model.side**2
    return min(max(BATCH, FILLED // numbers), MOST)


def _images_of_model(
    model: CheckedModel,
    banks: Mapping[str, PromptBank | BankStack],
    request: SampleRequest,
    device: torch.device,
    use: BankUse,
    count_step: Callable[[], None],
) -> Iterator[ModelImages]:
    """The images of one checkpoint, alone and then with each bank."""
    with _advising(model):
        models = load_models(model.base)
        for part in (models.denoiser, *models.frozen):
            part.to(device)
    labels = _image_labels(model, request)
    notice = ASSUMED if assumes_v_prediction(model.base) else ""
    if model.classes and model.null_class is None:
        notice = "sampled without guidance: its null class is not known"
    with _advising(model):
        own = _images(model, models, request, device, count_step)
    yield ModelImages(model.name, own, labels, notice)
    side = (model.side, model.side) if use.resize_prompts else None
    for title, bank in banks.items():
        attached = attach(
            models.denoiser,
            bank,
            allow_base_mismatch=use.allow_base_mismatch,
            resize_prompts_to=side,
        )
        with attached, _advising(model):
            images = _images(model, models, request, device, count_step)
        yield ModelImages(f"{model.name} + {title}", images, labels)


def _image_labels(model: CheckedModel, request: SampleRequest) -> tuple[str, ...]:
    """The prompt or class of each image, in words; none for models that take neither."""
    texts = request.prompts or [f"class {each}" for each in model.classes]
    return tuple(texts[number % len(texts)] for number in range(request.images)) if texts else ()


@contextmanager
def _advising(model: CheckedModel) -> Iterator[None]:
    """Raise LimitError with advice in place of an error of the block that says out of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        what = f"out of memory in drawing images of {model.side * model.base.scale} pixels"
        advice = "a smaller --resolution takes less; --device cpu takes the system's memory"
        raise LimitError(what, path=model.name, advice=advice) from error


def _images(
    model: CheckedModel,
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
    batch = _batch_of(model)
    for start in range(0, request.images, batch):
        numbers = range(start, min(start + batch, request.images))
        noise = [initial_noise(shape, request.seed, f"image {number}") for number in numbers]
        condition, unconditional = _conditions(model, models, request, numbers)
        latents = sample(
            sampler, torch.stack(noise).to(device), condition, unconditional, count_step
        )
        if not bool(latents.isfinite().all()):
            what = "its images hold NaN or infinity"
            raise InputError(what, path=model.name, advice="try a --guidance nearer to 1")
        made = decode_latents(models, latents).cpu()
        if not bool(made.isfinite().all()):
            place = model.base.folder / model.base.autoencoder
            raise InputError("makes NaN or infinity of finite latents", path=place)
        images.append(made)
    return torch.cat(images)


def _conditions(
    model: CheckedModel, models: Models, request: SampleRequest, numbers: range
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
    if not model.classes:
        return {}, None
    numbered = [model.classes[number % len(model.classes)] for number in numbers]
    classes = torch.tensor(numbered, device=models.denoiser.device)
    null = None if model.null_class is None else torch.full_like(classes, model.null_class)
    return {"class_labels": classes}, None if null is None else {"class_labels": null}
