"""A dry run of a base: its configs are tried on models without weights before data is read.

Rule 1: whatever a config makes the libraries raise becomes one InputError about the base.
Rule 2: nothing is computed: the models are on torch's meta device, where only shapes exist. The
tokenizer and the scheduler, which are small, are tried for real.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import diffusers
import torch
import transformers

from ..checkpoints.safetensors import read_header
from ..errors import InputError, Issue, MismatchError
from .base import SCHEDULER, TEXT_ENCODER, TOKENIZER, VAE, Base, Conditioning
from .base_files import staged
from .loading import known_fields, load_tokenizer, loading, predict
from .objective import Objective
from .sampling import sampler_of

# names that diffusers used until 2023, and still reads
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
OLD_NAME = re.compile(r"(?<=\.)(query|key|value|proj_attn)(?=\.(weight|bias)$)")


def rehearse(base: Base, side: int, scheduler: Any, objective: Objective) -> None:
    """Try a base on inputs of height and width `side`, computing shapes only.

    Raises InputError for configs that the libraries reject, MismatchError for weights or
    components that do not fit them.
    """
    with loading(base), torch.no_grad(), torch.device("meta"):
        denoiser = getattr(diffusers, base.class_name).from_config(dict(base.config)).eval()
        _require_same_tensors(base, denoiser)
        sample = torch.zeros(1, base.channels, side, side)
        condition = _condition(base)
        predicted = predict(denoiser, sample, torch.zeros(1, dtype=torch.long), condition)
        if predicted.shape[1] not in (base.channels, 2 * base.channels):
            what = f"predicts {predicted.shape[1]} channels from {base.channels}"
            raise MismatchError(what, path=base.denoiser_folder)
        if base.vae is not None:
            _rehearse_vae(base, base.vae, side)
    with loading(base):
        _rehearse_scheduler(base, scheduler, objective)


def _condition(base: Base) -> torch.Tensor | None:
    """A condition for the denoiser, without values; None if it takes none."""
    if base.conditioning is Conditioning.LABEL:
        return torch.zeros(1, dtype=torch.long)
    if base.conditioning is Conditioning.NONE:
        return None
    config = transformers.CLIPTextConfig(**known_fields(base, TEXT_ENCODER))
    length = base.configs[TOKENIZER]["model_max_length"]
    longest, known = config.max_position_embeddings, config.vocab_size
    if length > longest:
        what = f"makes {length} tokens of a caption, but the text encoder takes {longest}"
        raise MismatchError(what, path=base.folder / TOKENIZER)
    encoder = transformers.CLIPTextModel(config)
    with torch.device("cpu"):
        tokens = _tokens(base)
    if len(tokens) != length or max(tokens) >= known:
        what = f"does not fit the text encoder, which knows {known} tokens"
        raise MismatchError(what, path=base.folder / TOKENIZER)
    return encoder(torch.zeros(1, length, dtype=torch.long), return_dict=False)[0]


def _tokens(base: Base) -> list[int]:
    """The tokens of an empty caption, and the largest token id."""
    tokenizer = _tokenizer(base)
    length = tokenizer.model_max_length
    found = tokenizer([""], padding="max_length", truncation=True, max_length=length)
    (tokens,) = found.input_ids
    return [*tokens[:-1], max(tokens[-1], *tokenizer.get_vocab().values())]


def _tokenizer(base: Base) -> Any:
    """The tokenizer of a base, without its text encoder."""
    kinds = {TOKENIZER: base.components[TOKENIZER]}
    within = base.files.inside(TOKENIZER, kinds[TOKENIZER].files[0])
    with staged(base.files, kinds, {within: known_fields(base, TOKENIZER)}) as folder:
        return load_tokenizer(folder / TOKENIZER)


def count_tokens(base: Base, captions: Sequence[str]) -> list[int]:
    """The number of tokens of each caption, with those that mark beginning and end, if not cut off.

    Raises InputError if the tokenizer cannot be loaded.
    """
    if not captions:
        return []
    with loading(base):
        found = _tokenizer(base)(list(captions), truncation=False)
    return [len(tokens) for tokens in found.input_ids]


def _rehearse_vae(base: Base, config: Mapping[str, Any], side: int) -> None:
    vae = diffusers.AutoencoderKL.from_config(dict(config)).eval()
    pixels = torch.zeros(1, base.pixel_channels, side * base.scale, side * base.scale)
    mean = vae.encode(pixels, return_dict=False)[0].mean
    decoded = vae.decode(mean, return_dict=False)[0]
    if mean.shape[1:] != (base.channels, side, side) or decoded.shape != pixels.shape:
        what = f"makes latents {list(mean.shape[1:])} of images {list(pixels.shape[1:])}"
        raise MismatchError(what, path=base.folder / VAE)


def _rehearse_scheduler(base: Base, scheduler: Any, objective: Objective) -> None:
    sampler = sampler_of(scheduler, objective, has_vae=base.vae is not None)
    sampler.set_timesteps(1)
    zeros = torch.zeros(1, 1, 2, 2)
    stepped = sampler.step(zeros, sampler.timesteps[0], zeros, return_dict=False)[0]
    if not bool(stepped.isfinite().all()):
        raise InputError("gives NaN or infinity", path=base.place(SCHEDULER))


def _require_same_tensors(base: Base, denoiser: Any) -> None:
    """Raise MismatchError unless the weights have the names and shapes of the config's model."""
    expected = {name: tuple(tensor.shape) for name, tensor in denoiser.state_dict().items()}
    issues = list(_differences(base, expected))
    if issues:
        raise MismatchError.collected(issues)


def _differences(base: Base, expected: dict[str, tuple[int, ...]]) -> Iterator[Issue]:
    for file in base.files.weights[base.denoiser].files:
        for tensor in read_header(file).tensors:
            shape = expected.pop(_new_name(tensor.name), None)
            if shape is None:
                yield Issue("is not in the model that its config describes", file, tensor.name)
            elif shape != tensor.shape:
                what = f"has shape {list(tensor.shape)}, but its config says {list(shape)}"
                yield Issue(what, file, tensor.name)
    for name in expected:
        what = "is missing, though its config describes it"
        yield Issue(what, base.denoiser_folder, name)


def _new_name(name: str) -> str:
    return OLD_NAME.sub(lambda found: RENAMED[found[1]], name)
