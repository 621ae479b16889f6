"""Images of models on disk, side by side: of several checkpoints, with and without prompt banks.

Rule 1: image i of every model starts from the same noise and is told the same, so that what differs
comes from the models alone.
Rule 2: what can be refused from configs is refused before a model is loaded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
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
from ..choices import Prediction
from ..diffusion.base import Base, Conditioning, choose_resolution, read_base
from ..diffusion.loading import (
    Models,
    decode_latents,
    empty_model,
    encode_captions,
    load_models,
    load_scheduler,
)
from ..diffusion.objective import Objective, objective_of
from ..diffusion.sampling import initial_noise, require_steps, sample, sampler_of
from ..errors import InputError, Issue, LimitError, MismatchError, UsageError
from ..ledger.names import unique_names

AT_ONCE = 8
"""Images that are made together."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What is to be drawn; UsageError for what cannot be."""

    prompts: tuple[str, ...] = ()
    """Texts, one after the other, for models that are told captions."""
    classes: tuple[int, ...] = ()
    """Classes, one after the other, for models that are told classes; all of them if empty."""
    images: int = 16
    steps: int = 25
    guidance: float = 3.0
    """1 for none; else the last class embedding of a model stands for no class."""
    seed: int = 0
    resolution: int | None = None
    """Height and width in pixels; None for those of the model."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn, with all issues at once."""
        least = {"images": 1, "steps": 1, "seed": 0, "resolution": 1}
        issues = [
            Issue(f"--{name} is {value}, which is less than {bound}")
            for name, bound in least.items()
            if (value := getattr(self, name)) is not None and value < bound
        ]
        if not 0 <= self.guidance < math.inf:
            issues.append(Issue(f"--guidance is {self.guidance}, which is no number from 0 up"))
        if issues:
            raise UsageError.collected(issues)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The images of one model."""

    name: str
    """Of the checkpoint, and of the bank that was attached to it."""
    images: torch.Tensor
    """[N, C, H, W] in [-1, 1], on the CPU."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is allowed for a bank to be used where it does not fit as it is."""

    base_mismatch: bool = False
    """Other weights than those of its base."""
    resize: bool = False
    """Images of another size than it was trained for: what it adds is interpolated."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint that is going to be drawn, read but not loaded."""

    name: str
    base: Base
    scheduler: Any
    objective: Objective
    side: int
    """Height and width of what is denoised."""
    labels: tuple[int, ...]
    """Classes in the order in which images show them; none for models that are told none."""
    null: int | None


def draw(
    folders: Sequence[Path],
    banks: Sequence[Path],
    wish: SampleRequest,
    device: torch.device,
    allowed: Allowed | None = None,
) -> Iterator[Drawn]:
    """The images of each checkpoint, alone and then with each bank or stack of banks.

    Raises SoupError for what cannot be loaded, MismatchError for what does not fit.
    """
    allowed = allowed or Allowed()
    names = unique_names([os.path.abspath(each) for each in folders])
    sitters = [_sitter(*each, wish) for each in zip(names, folders, strict=True)]
    titles = unique_names([os.path.abspath(each) for each in banks])
    loaded = {
        title: load_bank_or_stack(each).to(device)
        for title, each in zip(titles, banks, strict=True)
    }
    for sitter in sitters:
        _require_fit(sitter, loaded, allowed)
    for sitter in sitters:
        yield from _drawn(sitter, loaded, wish, device, allowed)


def device_of(text: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:1` means: with `auto`, a GPU if there is one.

    Raises UsageError for what is no device, LimitError for one that is not there.
    """
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {text!r} is not known", advice="auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise LimitError(f"--device {text}: there is no such GPU", advice="--device cpu")
    return device


def _sitter(name: str, folder: Path, wish: SampleRequest) -> LoadedModel:
    base = read_base(folder)
    scheduler = load_scheduler(base)
    objective = objective_of(scheduler, Prediction.AUTO, None)
    require_steps(scheduler, objective, wish.steps, str(folder))
    side = choose_resolution(base, wish.resolution) // base.scale
    labels, null = _labels(base, wish)
    return LoadedModel(name, base, scheduler, objective, side, labels, null)


def _labels(base: Base, wish: SampleRequest) -> tuple[tuple[int, ...], int | None]:
    """The classes that images show, and the number that stands for none.

    Raises UsageError for words that the model has no use for, MismatchError for strange classes.
    """
    if wish.prompts and base.conditioning is not Conditioning.TEXT:
        raise UsageError("is not told captions, and there is a --prompt", path=base.folder)
    if base.conditioning is Conditioning.TEXT and not wish.prompts:
        raise UsageError("is told captions: what to draw?", path=base.folder, advice="--prompt")
    if base.conditioning is not Conditioning.LABEL:
        if wish.classes:
            raise UsageError("is not told classes, and there is a --class", path=base.folder)
        return (), None
    # a DiT always has an embedding for no class; of others it is said to be the last one
    has_null = base.class_name == "DiTTransformer2DModel" or wish.guidance != 1
    known = base.embeddings - has_null
    if strangers := [each for each in wish.classes if not 0 <= each < known]:
        what = f"has classes from 0 to {known - 1}, and --class is {strangers[0]}"
        raise MismatchError(what, path=base.folder)
    return wish.classes or tuple(range(known)), known if has_null else None


def _require_fit(
    sitter: LoadedModel, banks: Mapping[str, PromptBank | BankStack], allowed: Allowed
) -> None:
    """Raise MismatchError for a bank of another base, or size, in whatever way."""
    digest = None
    if banks and not allowed.base_mismatch:
        digest = content_digests(sitter.base.denoiser_folder)[0].digest
    for title, bank in banks.items():
        configs = [
            (f"{title}/{member.name}" if member.name else title, member.bank.config)
            for member in members_of(bank)
        ]
        _require_one_fits(sitter, configs, digest, allowed)


def _require_one_fits(
    sitter: LoadedModel,
    configs: Sequence[tuple[str, BankConfig]],
    digest: str | None,
    allowed: Allowed,
) -> None:
    own, side = configs[0][1].base.sample_size, (sitter.side, sitter.side)
    found = describe_base(
        empty_model(sitter.base),
        sample_size=own,
        num_train_timesteps=sitter.objective.timesteps,
        prediction_type=sitter.objective.prediction.value,
        digest=digest,
    )
    for name, config in configs:
        require_fit(config, found, name, allow_base_mismatch=allowed.base_mismatch)
    if own != side and not allowed.resize:
        was, now = (
            " by ".join(str(each * sitter.base.scale) for each in size) for size in (own, side)
        )
        what = f"was trained for images of {was} pixels, and these are {now}"
        raise MismatchError(what, path=configs[0][0], advice="--resize-prompts")


def _drawn(
    sitter: LoadedModel,
    banks: dict[str, PromptBank | BankStack],
    wish: SampleRequest,
    device: torch.device,
    allowed: Allowed,
) -> Iterator[Drawn]:
    models = load_models(sitter.base)
    for model in (models.denoiser, models.vae, models.text_encoder):
        if model is not None:
            model.to(device)
    yield Drawn(sitter.name, _images(sitter, models, wish, device))
    side = (sitter.side, sitter.side) if allowed.resize else None
    for title, bank in banks.items():
        with attach(
            models.denoiser,
            bank,
            allow_base_mismatch=allowed.base_mismatch,
            resize_prompts_to=side,
        ):
            yield Drawn(f"{sitter.name} + {title}", _images(sitter, models, wish, device))


def _images(
    sitter: LoadedModel, models: Models, wish: SampleRequest, device: torch.device
) -> torch.Tensor:
    """The images, each from noise of its own; InputError for numbers that are none."""
    shape = (sitter.base.channels, sitter.side, sitter.side)
    scheduler = sampler_of(sitter.scheduler, sitter.objective, has_vae=sitter.base.vae is not None)
    images = []
    for start in range(0, wish.images, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, wish.images))
        noise = [initial_noise(shape, wish.seed, f"image {number}") for number in numbers]
        condition, without = _conditions(sitter, models, wish, numbers)
        latents = sample(
            models.denoiser,
            scheduler,
            torch.stack(noise).to(device),
            condition,
            without,
            steps=wish.steps,
            guidance=wish.guidance,
        )
        if not bool(latents.isfinite().all()):
            what, advice = "draws images that are not finite", "a --guidance nearer to 1 may help"
            raise InputError(what, path=sitter.name, advice=advice)
        images.append(decode_latents(models, latents).cpu())
    return torch.cat(images)


def _conditions(
    sitter: LoadedModel, models: Models, wish: SampleRequest, numbers: range
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """What the images of those numbers are told, and what stands for nothing."""
    if wish.prompts:
        texts = [wish.prompts[number % len(wish.prompts)] for number in numbers]
        return encode_captions(models, texts), encode_captions(models, [""] * len(texts))
    if not sitter.labels:
        return None, None
    device = models.denoiser.device
    labels = [sitter.labels[number % len(sitter.labels)] for number in numbers]
    told = torch.tensor(labels, device=device)
    return told, None if sitter.null is None else torch.full_like(told, sitter.null)
