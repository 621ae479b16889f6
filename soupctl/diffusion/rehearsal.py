"""A dry run of a base: its configs are tried on models without weights before data is read.

Rule 1: whatever a config makes the libraries raise becomes one InputError about the base.
Rule 2: nothing is computed: the models are on torch's meta device, where only shapes exist. The
tokenizer and the scheduler, which are small, are tried for real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
import transformers

from ..errors import InputError, MismatchError
from .base import SCHEDULER, Base, Conditioning
from .base_files import staged
from .families.family import Condition, Frame, TextPart
from .flow import TrainingObjective
from .loading import encode_images, known_fields, load_tokenizer, loading
from .published_configs import LENGTH
from .sampling import sampler_of
from .weight_checks import require_same_tensors


def rehearse(base: Base, side: int, scheduler: Any, objective: TrainingObjective) -> None:
    """Try a base on inputs of height and width `side`, computing shapes only.

    Raises InputError for configs that the libraries reject, MismatchError for weights or
    components that do not fit them.
    """
    with loading(base), torch.no_grad(), torch.device("meta"):
        denoiser = getattr(diffusers, base.class_name).from_config(dict(base.config)).eval()
        require_same_tensors(base, base.denoiser, denoiser)
        sample = torch.zeros(1, base.channels, side, side)
        condition = _condition(base)
        timesteps = torch.zeros(1, dtype=torch.long)
        predicted = base.family.predict(denoiser, sample, timesteps, condition)
        if predicted.shape[1] not in (base.channels, 2 * base.channels):
            what = f"predicts {predicted.shape[1]} channels from {base.channels}"
            raise MismatchError(what, path=base.denoiser_folder)
        if base.vae is not None:
            _rehearse_vae(base, base.vae, side)
    with loading(base):
        _rehearse_scheduler(base, scheduler, objective)


def _condition(base: Base) -> Condition:
    """A condition for the denoiser, without values."""
    if base.conditioning is Conditioning.LABEL:
        return {"class_labels": torch.zeros(1, dtype=torch.long)}
    family = base.family
    if family.embed is None:
        return {}
    encoders = {part.encoder: _encoder(base, part) for part in base.texts}
    ids = {
        part.encoder: torch.zeros(1, _caption_length(base, part), dtype=torch.long)
        for part in base.texts
    }
    found = family.embed(encoders, ids, base.config)
    return family.complete(found, base.config, Frame.whole(1, 8, 8), 1.0)


def _encoder(base: Base, part: TextPart) -> Any:
    """A text encoder without weights; MismatchError if its tokenizer does not fit it."""
    kind = getattr(transformers, base.components[part.encoder].name)
    config = kind.config_class(**known_fields(base, part.encoder))
    length = _caption_length(base, part)
    longest = getattr(config, "max_position_embeddings", length)
    if length > longest:
        what = f"makes {length} tokens of a caption, but the text encoder takes {longest}"
        raise MismatchError(what, path=base.folder / part.tokenizer)
    with torch.device("cpu"):
        tokens = _tokens(base, part)
    if len(tokens) != length or max(tokens) >= config.vocab_size:
        what = f"does not fit the text encoder, which knows {config.vocab_size} tokens"
        raise MismatchError(what, path=base.folder / part.tokenizer)
    encoder = kind(config)
    require_same_tensors(base, part.encoder, encoder)
    return encoder


def _caption_length(base: Base, part: TextPart) -> int:
    """The number of tokens of a caption for a text encoder."""
    return part.tokens or int(base.configs[part.tokenizer][LENGTH])


def _tokens(base: Base, part: TextPart) -> list[int]:
    """The tokens of an empty caption, and the largest token id."""
    tokenizer, length = _tokenizer(base, part), _caption_length(base, part)
    found = tokenizer([""], padding="max_length", truncation=True, max_length=length)
    (tokens,) = found.input_ids
    return [*tokens[:-1], max(tokens[-1], *tokenizer.get_vocab().values())]


def _tokenizer(base: Base, part: TextPart) -> Any:
    """A tokenizer of a base, without its text encoder."""
    name, kind = part.tokenizer, base.components[part.tokenizer]
    within = base.files.inside(name, kind.files[0])
    with staged(base.files, {name: kind}, {within: known_fields(base, name)}) as folder:
        return load_tokenizer(folder / name, kind.name)


def caption_bytes(base: Base) -> int:
    """Bytes of what the text encoders of a base make of one caption, in float32."""
    with loading(base), torch.device("meta"), torch.no_grad():
        return 4 * sum(each.numel() for each in _condition(base).values())


def most_tokens(base: Base) -> int:
    """The number of tokens to which a caption is cut off: the most that any text encoder takes."""
    return max(_caption_length(base, part) for part in base.texts)


def count_tokens(base: Base, captions: Sequence[str]) -> list[int]:
    """The number of tokens of each caption, with those that mark beginning and end, if not cut off.

    They are those of the text encoder that takes the most. Raises InputError if its tokenizer
    cannot be loaded.
    """
    if not captions:
        return []
    part = max(base.texts, key=lambda part: _caption_length(base, part))
    with loading(base):
        found = _tokenizer(base, part)(list(captions), truncation=False)
    return [len(tokens) for tokens in found.input_ids]


def _rehearse_vae(base: Base, config: Mapping[str, Any], side: int) -> None:
    vae = getattr(diffusers, base.components[base.autoencoder].name).from_config(dict(config))
    vae.eval()
    require_same_tensors(base, base.autoencoder, vae)
    pixels = torch.zeros(1, base.pixel_channels, side * base.scale, side * base.scale)
    mean = encode_images(vae, pixels).chunk(2, dim=1)[0]
    decoded = vae.decode(mean, return_dict=False)[0]
    if mean.shape[1:] != (base.channels, side, side) or decoded.shape != pixels.shape:
        what = f"makes latents {list(mean.shape[1:])} of images {list(pixels.shape[1:])}"
        raise MismatchError(what, path=base.folder / base.autoencoder)


def _rehearse_scheduler(base: Base, scheduler: Any, objective: TrainingObjective) -> None:
    sampler = sampler_of(scheduler, objective, is_clipped=base.is_clipped)
    base.family.schedule(sampler, 1, 4, "cpu")
    zeros = torch.zeros(1, 1, 2, 2)
    stepped = sampler.step(zeros, sampler.timesteps[0], zeros, return_dict=False)[0]
    if not bool(stepped.isfinite().all()):
        raise InputError("gives NaN or infinity", path=base.place(SCHEDULER))
