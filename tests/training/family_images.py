"""What diffusers makes of the bases of families: pipelines and images; and a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from soupctl.diffusion.sampling import initial_noise
from soupctl.training.loader import Batch

PROMPTS = ("a red circle", "a bar on white")
SIZE = {"height": 8, "width": 8}
SEED = 7


def pipeline(folder: Path) -> Any:
    listing = json.loads((folder / "model_index.json").read_text())
    # diffusers wants to be told of parts that a pipeline lacks
    lacking = [name for name, kind in listing.items() if kind == [None, None]]
    loaded = DiffusionPipeline.from_pretrained(folder, **dict.fromkeys(lacking))
    loaded.set_progress_bar_config(disable=True)
    return loaded


def noise_of(folder: Path, running: Any) -> torch.Tensor:
    """The noise that these images start from."""
    base = running.read_base(folder)
    shape = (base.channels, 4, 4)
    return torch.stack([initial_noise(shape, SEED, f"image {number}") for number in range(2)])


def images_of(own: Any, folder: Path, running: Any, **options: object) -> torch.Tensor:
    """The images that a pipeline of diffusers makes of that noise, in [0, 1]."""
    noise = noise_of(folder, running)
    if "Flux" in type(own).__name__:
        noise = own._pack_latents(noise, *noise.shape)
    made = own(
        list(PROMPTS),
        latents=noise,
        num_inference_steps=2,
        output_type="pt",
        **SIZE,
        **options,
    ).images
    assert made.std() > 0.01
    return made


def with_ddim(own: Any) -> Any:
    """The pipeline with the scheduler that `sample` uses for noise with betas."""
    config = {name: value for name, value in own.scheduler.config.items() if name[0] != "_"}
    own.scheduler = DDIMScheduler.from_config(config, clip_sample=False)
    return own


def batch_of(channels: int, timesteps: tuple[int, int], size: int = 8) -> Batch:
    """Two images with captions, one of them empty."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    side = size // 2
    return Batch(
        images=normal(2, 3, size, size).clamp(-1, 1),
        noise=normal(2, channels, side, side),
        latent_noise=normal(2, channels, side, side),
        timesteps=torch.tensor(timesteps),
        captions=("a red circle", ""),
        labels=None,
        positions=(0, 1),
        frames=torch.tensor([[20.0, 30.0, 3.0, 1.0, 8.0, 8.0], [8.0, 9.0, 0.0, 1.0, 8.0, 8.0]]),
    )
