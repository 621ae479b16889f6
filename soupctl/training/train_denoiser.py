"""Training a denoiser: its models and optimizer, its batches and its loss.

Rule 1: trained weights are float32, whatever the base's dtype, unless weight-dtype says otherwise;
--precision is for computing only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..choices import WeightDtype
from ..diffusion.base import Conditioning
from ..diffusion.families.family import Condition, Frame
from ..diffusion.loading import Models, encode_captions, encode_images, sample_latents
from ..diffusion.objective import Emphasis
from ..errors import LimitError
from .averages import Averages
from .dataset import Dataset
from .distributed import is_fsdp
from .export import LATENTS
from .loader import Batch, BatchSampler, Examples, LatentCache, batches
from .loop import LoopState, Loss
from .optimizers import ParameterOptimizers, has_own_steps, make_optimizer, train_in_bfloat16
from .options import Options
from .pixels import read_pixels
from .regularized import OTHER_SEED, with_regularization
from .setup import PreparedRun


def initial_state(run: PreparedRun, models: Models) -> LoopState:
    """The state before the first step, on accelerate's devices."""
    options, accelerator = run.options, run.accelerator
    prepare_models(run, models)
    module, names = models.denoiser, [name for name, _ in models.denoiser.named_parameters()]
    if options.train_text_encoder:
        module = DenoiserWithTexts(models)
        names += [name for name, _ in module.texts.named_parameters()]
    if options.weight_dtype is WeightDtype.BFLOAT16:
        train_in_bfloat16(models.denoiser)
    if has_own_steps(options):
        model = accelerator.prepare(module)
        optimizer: Any = ParameterOptimizers(list(model.parameters()), options)
    else:
        optimizer = make_optimizer(list(module.parameters()), options)
        model, optimizer = _wrap(accelerator, module, optimizer)
    # DeepSpeed sets train(), in which each block of a DiT would drop labels by itself
    accelerator.unwrap_model(model).eval()
    # matched by order, because FSDP renames the parameters of the modules that it wraps
    trained = dict(zip(names, accelerator.unwrap_model(model).parameters(), strict=True))
    return LoopState(accelerator, model, trained, optimizer, Averages(trained, options))


class DenoiserWithTexts(nn.Module):
    """A denoiser and its text encoders, trained together, as one module for accelerate to wrap.

    Text encoders compute in float32, whatever the precision of the denoiser.
    """

    def __init__(self, models: Models) -> None:
        super().__init__()
        self.denoiser = models.denoiser
        self.texts = nn.ModuleDict(models.text_encoders).requires_grad_(True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The denoiser's prediction."""
        return self.denoiser(*args, **kwargs)


def prepare_models(run: PreparedRun, models: Models) -> None:
    """Move the frozen models to their device, and set up gradient checkpointing if it is chosen."""
    if run.options.grad_checkpointing:
        models.denoiser.enable_gradient_checkpointing()
    for frozen in models.frozen:
        frozen.to(run.accelerator.device)


def _wrap(accelerator: Any, denoiser: Any, optimizer: Any) -> Any:
    """Model and optimizer wrapped by accelerate; LimitError if its configuration does not fit."""
    try:
        return accelerator.prepare(denoiser, optimizer)
    except ValueError as error:
        reason = str(error).strip().partition("\n")[0]
        advice = "check fsdp_auto_wrap_policy in accelerate's configuration"
        raise LimitError(reason, advice=advice if is_fsdp(accelerator) else None) from error


def loss_function(run: PreparedRun, models: Models) -> Loss:
    """The denoising loss of a batch, as a function of the wrapped model and the batch."""
    device, objective = run.accelerator.device, run.objective
    guidance = run.options.guidance_embedding

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        noise, timesteps = batch.noise.to(device), batch.timesteps.to(device)
        samples = batch.images.to(device)
        if batch.latent_noise is not None:
            # cached moments have twice the channels of latents
            cached = samples.shape[1:] == (2 * noise.shape[1], *noise.shape[2:])
            moments = samples if cached else encode_images(models.vae, samples)
            samples = sample_latents(models.vae, moments, batch.latent_noise.to(device))
        condition: Condition = {}
        if run.base.conditioning is Conditioning.TEXT:
            frame = Frame(batch.frames.to(device))
            condition = encode_captions(
                models, batch.captions, frame, guidance, trained=run.options.train_text_encoder
            )
        elif batch.labels is not None:
            condition = {"class_labels": batch.labels.to(device)}
        noisy = objective.noisy(samples, noise, timesteps)
        told = objective.told(timesteps)
        predicted = run.base.family.predict(model, noisy, told, condition)
        emphasis = Emphasis(_on(device, batch.masks), _on(device, batch.weights))
        return objective.loss(predicted, samples, noise, timesteps, emphasis)

    return loss


def _on(device: Any, tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(device)


def batches_from(run: PreparedRun, models: Models, step: int) -> Iterator[Batch]:
    """The batches of this process after `step`, with cached latents if that option is set."""
    options, plan, accelerator = run.options, run.plan, run.accelerator
    cache = fill_cache(run, models) if options.cache_latents else None
    examples = _examples(run, run.dataset, options, cache)
    if run.regularization is not None:
        # drawn from another seed, so that their noise is not that of the images
        other = replace(options, seed=options.seed ^ OTHER_SEED, masked_loss=False)
        prior = _examples(run, run.regularization, other, cache)
        examples = with_regularization(examples, prior, options.regularization_weight)
    sampler = BatchSampler(
        first_step=step,
        last_step=plan.steps,
        grad_accum=options.grad_accum,
        batch_size=options.batch_size,
        processes=plan.processes,
        process=accelerator.process_index,
    )
    return batches(examples, sampler, options.workers)


def _examples(
    run: PreparedRun, dataset: Dataset, options: Options, cache: LatentCache | None
) -> Examples:
    """The examples of images by position, with the classes of the run."""
    labels, null = None, None
    if run.classes is not None:
        labels = [run.classes.numbers[str(each.label)] for each in dataset.samples]
        null = run.classes.null
    return Examples(dataset.samples, options, run.input_spec, labels, null, cache)


def fill_cache(run: PreparedRun, models: Models) -> LatentCache:
    """The run's latent cache, after encoding the images that were missing in it."""
    folder = run.request.output / LATENTS
    folder.mkdir(exist_ok=True)
    cache = LatentCache(folder, run.digests[run.base.autoencoder], run.input_spec)
    accelerator = run.accelerator
    samples = [each for part in run.trained_on for each in part.samples]
    share = samples[accelerator.process_index :: accelerator.num_processes]
    for sample in cache.missing(share):
        size = run.input_spec.size_of(sample)
        pixels = read_pixels(sample, size, run.input_spec.pixel_channels, (0.5, 0.5))
        plain = torch.from_numpy(pixels)[None].to(accelerator.device)
        cache.write(
            sample,
            encode_images(models.vae, plain)[0].cpu(),
            encode_images(models.vae, plain.flip(-1))[0].cpu(),
        )
    accelerator.wait_for_everyone()
    return cache
