"""A base in memory: its models, and their forward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers

from ..errors import InputError
from .base import SCHEDULER, TEXT_ENCODER, TOKENIZER, VAE, Base, Conditioning


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a base; all but the denoiser are frozen."""

    base: Base
    denoiser: Any
    vae: Any | None
    text_encoder: Any | None
    tokenizer: Any | None


def load_models(base: Base) -> Models:
    """The models of a base in float32 on the CPU, the denoiser trainable.

    Raises InputError if diffusers or transformers cannot load them.
    """
    with _loading(base):
        denoiser = _from(getattr(diffusers, base.class_name), base.denoiser_folder)
        vae = None
        if base.vae is not None:
            vae = _from(diffusers.AutoencoderKL, base.folder / VAE).requires_grad_(False)
        text_encoder, tokenizer = _text_models(base)
    # eval() even for training: in train(), each block of a DiT drops other labels at random
    denoiser.requires_grad_(True)
    return Models(base, denoiser, vae, text_encoder, tokenizer)


@contextmanager
def _loading(base: Base) -> Iterator[None]:
    """Silence the libraries, and turn their exceptions into an InputError."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"cannot be loaded: {lines[0]}", path=base.folder) from error


def _from(kind: Any, folder: Any) -> Any:
    return kind.from_pretrained(
        folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()


def _text_models(base: Base) -> tuple[Any, Any]:
    if base.conditioning is not Conditioning.TEXT:
        return None, None
    names = {name: kind for name, _, kind in base.classes}
    encoder = getattr(transformers, names[TEXT_ENCODER]).from_pretrained(
        base.folder / TEXT_ENCODER, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    tokenizer = getattr(transformers, names[TOKENIZER]).from_pretrained(
        base.folder / TOKENIZER, local_files_only=True
    )
    return encoder.eval().requires_grad_(False), tokenizer


def empty_model(base: Base) -> Any:
    """A base's denoiser on the meta device, without weights; InputError for an invalid config."""
    with _loading(base), torch.device("meta"):
        return getattr(diffusers, base.class_name).from_config(dict(base.config))


def load_scheduler(base: Base) -> Any:
    """The base's noise schedule as diffusers loads it; for a bare denoiser, that of the DDPM paper.

    Raises InputError for what diffusers cannot load.
    """
    folder = base.folder / SCHEDULER
    if not folder.is_dir():
        return diffusers.DDPMScheduler()
    with _loading(base):
        config = diffusers.DDPMScheduler.load_config(folder, local_files_only=True)
        if "beta_schedule" not in config:
            # without betas, as in flow matching; the objective refuses it
            return getattr(diffusers, config["_class_name"]).from_config(config)
        return diffusers.DDPMScheduler.from_config(config)


def predict(
    denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor | None
) -> torch.Tensor:
    """The prediction of a denoiser, bare or wrapped, for [B, C, H, W] at timesteps [B]; same shape.

    `condition` is [B, tokens, width] for captions and [B] for classes.
    """
    if condition is not None and condition.dim() == 3:
        return denoiser(noisy, timesteps, encoder_hidden_states=condition, return_dict=False)[0]
    if condition is not None:
        return denoiser(noisy, timestep=timesteps, class_labels=condition, return_dict=False)[0]
    return denoiser(noisy, timesteps, return_dict=False)[0]


def encode_captions(models: Models, captions: Sequence[str]) -> torch.Tensor:
    """The text encoder's embeddings of captions, [B, tokens, width]."""
    tokenizer, encoder = models.tokenizer, models.text_encoder
    assert tokenizer is not None
    assert encoder is not None
    ids = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    with torch.no_grad():
        return encoder(ids.to(encoder.device), return_dict=False)[0]


def encode_images(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Mean and log variance of the latents of images [B, C, H, W], as [B, 2 C', H', W']."""
    with torch.no_grad():
        posterior = vae.encode(pixels, return_dict=False)[0]
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


def sample_latents(vae: Any, moments: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Scaled latents [B, C', H', W'] from moments [B, 2 C', H', W'] and standard normal `noise`."""
    mean, logvar = moments.chunk(2, dim=1)
    latents = mean + (0.5 * logvar).exp() * noise
    return (latents - (vae.config.shift_factor or 0)) * vae.config.scaling_factor


def decode_latents(models: Models, latents: torch.Tensor) -> torch.Tensor:
    """Images [B, C, H, W] in [-1, 1] from denoised latents, or pixels."""
    vae = models.vae
    if vae is None:
        return latents.clamp(-1, 1)
    with torch.no_grad():
        plain = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        return vae.decode(plain, return_dict=False)[0].clamp(-1, 1)
