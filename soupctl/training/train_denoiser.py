"""A run about to train: models on their devices, an optimizer, the way a loss is found.

Rule 1: what is trained is float32, whatever the base's dtype; a lower precision is for computing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.training_utils import EMAModel

from ..diffusion.base import Conditioning
from ..diffusion.loading import Models, draw_latents, encode_captions, encode_images, predict
from ..errors import LimitError
from .distributed import is_fsdp
from .export import LATENTS
from .loader import Batch, BatchSampler, Examples, LatentCache, batches, read_pixels
from .loop import LoopState, Loss, make_optimizer
from .setup import Prepared


def begin(run: Prepared, models: Models) -> LoopState:
    """Training at its first step, on whatever devices accelerate chose."""
    options, accelerator = run.options, run.accelerator
    if options.grad_checkpointing:
        models.denoiser.enable_gradient_checkpointing()
    for frozen in (models.vae, models.text_encoder):
        if frozen is not None:
            frozen.to(accelerator.device)
    names = [name for name, _ in models.denoiser.named_parameters()]
    optimizer = make_optimizer(list(models.denoiser.parameters()), options)
    model, optimizer = _wrapped(accelerator, models.denoiser, optimizer)
    # its engine is made in train(), in which every block of a DiT would drop labels for itself
    accelerator.unwrap_model(model).eval()
    # in their order, for whoever wraps modules one by one renames their parameters
    trained = dict(zip(names, accelerator.unwrap_model(model).parameters(), strict=True))
    ema = None
    if options.ema:
        ema = EMAModel(list(trained.values()), decay=options.ema_decay, foreach=True)
    return LoopState(accelerator, model, trained, optimizer, ema)


def _wrapped(accelerator: Any, denoiser: Any, optimizer: Any) -> Any:
    """Model and optimizer as accelerate has them; LimitError if its configuration does not fit."""
    try:
        return accelerator.prepare(denoiser, optimizer)
    except ValueError as error:
        reason = str(error).strip().partition("\n")[0]
        advice = "see fsdp_auto_wrap_policy in accelerate's configuration"
        raise LimitError(reason, advice=advice if is_fsdp(accelerator) else None) from error


def loss_of(run: Prepared, models: Models) -> Loss:
    """The loss of a batch: its objective, by a model that is handed in."""
    device, objective = run.accelerator.device, run.objective

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        noise, timesteps = batch.noise.to(device), batch.timesteps.to(device)
        samples = batch.images.to(device)
        if batch.latent_noise is not None:
            # a cache has moments already, with twice the channels of latents
            cached = samples.shape[1:] == (2 * noise.shape[1], *noise.shape[2:])
            moments = samples if cached else encode_images(models.vae, samples)
            samples = draw_latents(models.vae, moments, batch.latent_noise.to(device))
        condition = None
        if run.base.conditioning is Conditioning.TEXT:
            condition = encode_captions(models, batch.captions)
        elif batch.labels is not None:
            condition = batch.labels.to(device)
        predicted = predict(model, objective.noisy(samples, noise, timesteps), timesteps, condition)
        return objective.loss(predicted, samples, noise, timesteps)

    return loss


def batches_from(run: Prepared, models: Models, step: int) -> Iterator[Batch]:
    """The batches of this process from a step on, latents from a cache where that was asked."""
    options, plan, accelerator = run.options, run.plan, run.accelerator
    labels = None
    if run.classes is not None:
        labels = [run.classes.numbers[str(each.label)] for each in run.shard.samples]
    examples = Examples(
        run.shard.samples,
        options,
        run.frame,
        labels,
        None if run.classes is None else run.classes.null,
        fill_cache(run, models) if options.cache_latents else None,
    )
    visits = BatchSampler(
        first_step=step,
        last_step=plan.steps,
        grad_accum=options.grad_accum,
        batch_size=options.batch_size,
        processes=plan.processes,
        process=accelerator.process_index,
    )
    return batches(examples, visits, options.workers)


def fill_cache(run: Prepared, models: Models) -> LatentCache:
    """The cache of the run's latents, with those encoded that were not there."""
    folder = run.request.output / LATENTS
    folder.mkdir(exist_ok=True)
    cache = LatentCache(folder, run.digests["vae"], run.frame.resolution)
    accelerator = run.accelerator
    share = run.shard.samples[accelerator.process_index :: accelerator.num_processes]
    for sample in cache.missing(share):
        pixels = read_pixels(sample, run.frame.resolution, run.frame.pixel_channels, (0.5, 0.5))
        plain = torch.from_numpy(pixels)[None].to(accelerator.device)
        cache.keep(
            sample,
            encode_images(models.vae, plain)[0].cpu(),
            encode_images(models.vae, plain.flip(-1))[0].cpu(),
        )
    accelerator.wait_for_everyone()
    return cache
