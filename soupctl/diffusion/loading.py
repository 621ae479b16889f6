"""A base in memory: its models, and their forward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from ..errors import InputError, MismatchError, SoupError
from .base import SCHEDULER, TEXT_ENCODER, TOKENIZER, VAE, Base
from .base_files import staged
from .config_fields import FIELDS, SCHEDULER_FIELDS

LONGEST_REASON = 200
"""Characters of a library's message that an error shows."""


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

    Raises InputError if diffusers or transformers cannot load them, MismatchError for weights that
    lack tensors, OutputError if a file of the base changed since the base was read.
    """
    kinds, rewritten = base.loaded, {}
    for name, kind in kinds.items():
        inside = base.files.inside(name, kind.files[0])
        is_checked = name in (TEXT_ENCODER, TOKENIZER)
        rewritten[inside] = known_fields(base, name) if is_checked else base.configs[name]
    with loading(base), staged(base.files, kinds, rewritten) as folder:
        models = {
            name: _model(base, name, folder) for name, kind in kinds.items() if kind.has_weights
        }
        tokenizer = load_tokenizer(folder / TOKENIZER) if TOKENIZER in kinds else None
    # eval() even for training: in train(), each block of a DiT drops other labels at random
    denoiser = models.pop(base.denoiser).requires_grad_(True)
    for frozen in models.values():
        frozen.requires_grad_(False)
    return Models(base, denoiser, models.get(VAE), models.get(TEXT_ENCODER), tokenizer)


@contextmanager
def loading(base: Base) -> Iterator[None]:
    """Silence the libraries, and turn their exceptions into an InputError."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    try:
        yield
    except (MemoryError, SoupError):
        raise
    # a config can make the libraries raise anything
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        what = f"cannot be loaded: {lines[0][:LONGEST_REASON]}"
        raise InputError(what, path=base.folder) from error


def known_fields(base: Base, name: str) -> dict[str, Any]:
    """The config of a component, reduced to the fields that soupctl has checked."""
    fields = FIELDS[base.components[name].name]
    return {key: value for key, value in base.configs[name].items() if key in fields}


def _model(base: Base, name: str, folder: Path) -> Any:
    """A model of a base from the folder of its staged files; MismatchError if it lacks tensors."""
    kind = base.components[name]
    where = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    if kind.library == "diffusers":
        found = getattr(diffusers, kind.name).from_pretrained(
            folder / name, torch_dtype=torch.float32, **where
        )
    else:
        found = getattr(transformers, kind.name).from_pretrained(
            folder / name, dtype=torch.float32, trust_remote_code=False, **where
        )
    model, info = found
    if missing := sorted(info["missing_keys"]):
        what = f"lacks {len(missing)} tensors of the model that its config describes"
        raise MismatchError(what, path=base.folder / name, tensor=missing[0])
    for tensor in (*model.parameters(), *model.buffers()):
        # a copy, not a view of a file that might change while the model is used
        tensor.data = tensor.data.clone()
    return model.eval()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder of staged files."""
    return transformers.CLIPTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )


def empty_model(base: Base) -> Any:
    """A base's denoiser on the meta device, without weights; InputError for an invalid config."""
    with loading(base), torch.device("meta"):
        return getattr(diffusers, base.class_name).from_config(dict(base.config))


def load_scheduler(base: Base) -> Any:
    """The base's noise schedule as diffusers loads it; for a bare denoiser, that of the DDPM paper.

    Raises InputError if diffusers cannot load it.
    """
    if SCHEDULER not in base.configs:
        return diffusers.DDPMScheduler()
    config = base.configs[SCHEDULER]
    known = {
        name: value
        for name, value in config.items()
        if name in SCHEDULER_FIELDS and value is not None
    }
    with loading(base):
        return diffusers.DDPMScheduler.from_config(known)


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
