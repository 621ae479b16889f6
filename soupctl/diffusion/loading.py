"""A base in memory: its models, and their forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from ..errors import InputError, MismatchError, SoupError
from .base import SCHEDULER, Base
from .base_files import staged
from .config_fields import FIELDS, FLOW_FIELDS, SCHEDULER_FIELDS
from .families.family import Condition, Frame, TextPart
from .memory import is_out_of_memory

LONGEST_REASON = 200
"""Characters of a library's message that an error shows."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a base; all but the denoiser are frozen."""

    base: Base
    denoiser: Any
    vae: Any | None
    text_encoders: Mapping[str, Any]
    """By the names of their folders, as the tokenizers."""
    tokenizers: Mapping[str, Any]
    embedded: Callable[[Sequence[str]], Condition] | None = None
    """What the text encoders made of captions, if that is kept instead of them."""

    @property
    def frozen(self) -> tuple[Any, ...]:
        """All models but the denoiser."""
        return (*(() if self.vae is None else (self.vae,)), *self.text_encoders.values())


def load_models(base: Base) -> Models:
    """The models of a base in float32 on the CPU, the denoiser trainable.

    Raises InputError if diffusers or transformers cannot load them, MismatchError for weights that
    lack tensors, OutputError if a file of the base changed since the base was read.
    """
    kinds, rewritten = base.loaded, {}
    for name, kind in kinds.items():
        inside = base.files.inside(name, kind.files[0])
        is_checked = kind.library == "transformers"
        rewritten[inside] = known_fields(base, name) if is_checked else base.configs[name]
    with loading(base), staged(base.files, kinds, rewritten) as folder:
        models = {
            name: _model(base, name, folder) for name, kind in kinds.items() if kind.has_weights
        }
        tokenizers = {
            each.tokenizer: load_tokenizer(folder / each.tokenizer, kinds[each.tokenizer].name)
            for each in base.texts
        }
    # eval() even for training: in train(), each block of a DiT drops other labels at random
    denoiser = models.pop(base.denoiser).requires_grad_(True)
    for frozen in models.values():
        frozen.requires_grad_(False)
    vae = models.pop(base.autoencoder, None)
    return Models(base, denoiser, vae, models, tokenizers)


@contextmanager
def loading(base: Base) -> Iterator[None]:
    """Silence the libraries, and turn their exceptions into an InputError."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    try:
        yield
    except SoupError:
        raise
    # a config can make the libraries raise anything
    except Exception as error:
        if is_out_of_memory(error):
            raise
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


def load_tokenizer(folder: Path, kind: str) -> Any:
    """The tokenizer of class `kind` in a folder of staged files."""
    return getattr(transformers, kind.removesuffix("Fast")).from_pretrained(
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
    is_flow, config = base.family.is_flow, base.configs[SCHEDULER]
    fields = FLOW_FIELDS if is_flow else SCHEDULER_FIELDS
    known = {name: value for name, value in config.items() if name in fields and value is not None}
    kind = diffusers.FlowMatchEulerDiscreteScheduler if is_flow else diffusers.DDPMScheduler
    with loading(base):
        return kind.from_config(known)


def encode_captions(
    models: Models,
    captions: Sequence[str],
    frame: Frame,
    guidance: float,
    *,
    trained: bool = False,
) -> Condition:
    """The condition of images that have these captions and this frame.

    With `trained`, it has a gradient for the text encoders.
    """
    with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
        found = (models.embedded or partial(embed_captions, models))(captions)
    return models.base.family.complete(found, models.base.config, frame, guidance)


def embed_captions(models: Models, captions: Sequence[str]) -> Condition:
    """What the text encoders make of captions, without what depends on frame and guidance."""
    family, ids = models.base.family, {}
    assert family.embed is not None
    for part in models.base.texts:
        device = models.text_encoders[part.encoder].device
        ids[part.encoder] = _token_ids(models.tokenizers[part.tokenizer], part, captions).to(device)
    return family.embed(models.text_encoders, ids, models.base.config)


def encode_nothing(models: Models, count: int, frame: Frame, guidance: float) -> Condition:
    """The condition that images are guided away from: of an empty caption, or zeros."""
    found = encode_captions(models, [""] * count, frame, guidance)
    family = models.base.family
    if not family.zeroes_null(models.base.pipeline):
        return found
    zeros = {name: torch.zeros_like(each) for name, each in found.items()}
    return family.complete(zeros, models.base.config, frame, guidance)


def _token_ids(tokenizer: Any, part: TextPart, captions: Sequence[str]) -> torch.Tensor:
    """The token ids of captions, [B, tokens]."""
    return tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=part.tokens or tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids


def encode_images(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Mean and log variance of the latents of images [B, C, H, W], as [B, 2 C', H', W'].

    Of a VQModel, the mean is the latents before they are quantised, and the variance is zero.
    """
    with torch.no_grad():
        found = vae.encode(pixels, return_dict=False)[0]
    if isinstance(found, torch.Tensor):
        return torch.cat([found, torch.full_like(found, -torch.inf)], dim=1)
    return torch.cat([found.mean, found.logvar], dim=1)


def sample_latents(vae: Any, moments: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Scaled latents [B, C', H', W'] from moments [B, 2 C', H', W'] and standard normal `noise`."""
    mean, logvar = moments.chunk(2, dim=1)
    latents = mean + (0.5 * logvar).exp() * noise
    if (own := _own_moments(vae, latents)) is not None:
        return (latents - own[0]) * vae.config.scaling_factor / own[1]
    return (latents - _shift(vae)) * vae.config.scaling_factor


def decode_latents(models: Models, latents: torch.Tensor) -> torch.Tensor:
    """Images [B, C, H, W] in [-1, 1] from denoised latents, or pixels."""
    vae = models.vae
    if vae is None:
        return latents.clamp(-1, 1)
    with torch.no_grad():
        if (own := _own_moments(vae, latents)) is not None:
            plain = latents * own[1] / vae.config.scaling_factor + own[0]
        else:
            scale = vae.config.scaling_factor
            scaled = 1 / scale * latents if models.base.family.multiplies_scale else latents / scale
            plain = scaled + _shift(vae)
        return vae.decode(plain, return_dict=False)[0].clamp(-1, 1)


def _shift(vae: Any) -> float:
    """What is subtracted from latents before they are scaled."""
    return vae.config.get("shift_factor") or 0


def _own_moments(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean and standard deviation of latents by channel, [1, C, 1, 1], if the config has them."""
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or std is None:
        return None
    return tuple(like.new_tensor(each).view(1, -1, 1, 1) for each in (mean, std))
