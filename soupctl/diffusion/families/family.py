"""A family of denoisers, as a value.

Rule 1: a condition is the arguments that a denoiser gets besides its noisy input and the timestep.
Rule 2: families are read with a base's configs, so torch is loaded by their functions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Condition = Mapping[str, "torch.Tensor"]
"""Conditioning of a batch by name: each has B rows. Empty for a model that takes none."""
Predict = Callable[[Any, "torch.Tensor", "torch.Tensor", Condition], "torch.Tensor"]
"""The prediction of a denoiser for [B, C, H, W] at timesteps [B]; same height and width."""
Embed = Callable[[Mapping[str, Any], Mapping[str, "torch.Tensor"], Mapping[str, Any]], Condition]
"""The condition that text encoders make of the token ids for each, by the denoiser's config."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text encoder of a family, and its tokenizer, by their folders."""

    encoder: str
    tokenizer: str
    classes: tuple[str, ...]
    """Classes of transformers that it may have."""
    tokens: int | None = None
    """The number of tokens of a caption; None for the tokenizer's own limit."""
    is_optional: bool = False
    """Whether a pipeline may leave it out, as diffusers allows."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the images of a batch show of their originals, in pixels; for SDXL."""

    numbers: torch.Tensor
    """Height and width of the original, top and left of the crop, and height and width of the
    image, [B, 6], float32."""

    @classmethod
    def whole(cls, count: int, height: int, width: int) -> Frame:
        """The frame of `count` images that are not cropped."""
        import torch

        return cls(torch.tensor([[height, width, 0, 0, height, width]] * count).float())


class Guided(Enum):
    """How diffusers predicts with and without the condition, for guidance."""

    APART = "in two batches"
    NULL_FIRST = "in one batch, without the condition first"
    NULL_LAST = "in one batch, without the condition last"


def as_it_is(
    condition: Condition, _config: Mapping[str, Any], _frame: Frame, _guidance: float
) -> Condition:
    """The condition, unchanged."""
    return condition


def evenly(scheduler: Any, steps: int, _tokens: int, device: Any) -> None:
    """Set the timesteps of a scheduler, whatever the size of images is."""
    scheduler.set_timesteps(steps, device=device)


def not_zeroed(_pipeline: Mapping[str, Any]) -> bool:
    """The null condition is an empty caption."""
    return False


@dataclass(frozen=True, slots=True)
class DenoiserFamily:
    """How the denoisers of a family are trained and sampled."""

    name: str
    predict: Predict
    texts: tuple[TextPart, ...] = ()
    """Its text encoders; none for a family without captions."""
    embed: Embed | None = None
    complete: Callable[[Condition, Mapping[str, Any], Frame, float], Condition] = as_it_is
    """Adds what does not depend on captions: the frame, and the guidance scale."""
    schedule: Callable[[Any, int, int, Any], None] = evenly
    """Sets a scheduler's timesteps for so many steps and tokens of an image, on a device."""
    zeroes_null: Callable[[Mapping[str, Any]], bool] = not_zeroed
    """Whether images are guided away from zeros, not from an empty caption, by model_index.json."""
    is_flow: bool = False
    """Whether it is trained by flow matching."""
    guided: Guided = Guided.APART
    """The batches in which it is guided, which decide the last bits."""
    multiplies_scale: bool = False
    """Whether latents are multiplied by the inverse of the VAE's scale, not divided by the scale;
    that decides the last bit."""
    packing: int = 1
    """Channels of the denoiser's input for each channel of latents: positions are packed."""
    patch: int | None = None
    """Height and width of the part of latents that is one token; None for that of the config."""
    sample_size: int | None = None
    """Height and width of latents, if configs have no sample_size."""
