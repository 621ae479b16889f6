"""What diffusers makes of the bases of families: pipelines and images; and a batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from soupctl import verbs
from soupctl.diffusion.sampling import initial_noise
from soupctl.images.compare import sample_models
from soupctl.images.request import SampleRequest
from soupctl.training.loader import Batch

PROMPTS = ("a red circle", "a bar on white")
SIZE = {"height": 8, "width": 8}
SEED = 7


def pipeline(folder: Path, **options: object) -> Any:
    """A pipeline as diffusers loads it, quiet."""
    listing = json.loads((folder / "model_index.json").read_text())
    # diffusers wants to be told of parts that a pipeline lacks
    lacking = [name for name, kind in listing.items() if kind == [None, None]]
    loaded = DiffusionPipeline.from_pretrained(folder, **dict.fromkeys(lacking), **options)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def noise_of(folder: Path, running: Any, side: int = 4) -> torch.Tensor:
    """The noise that these images start from."""
    base = running.read_base(folder)
    shape = (base.channels, side, side)
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


def drawn(folder: Path, guidance: float | None = None, **request: object) -> torch.Tensor:
    """The two images that `sample` makes, in [0, 1]."""
    wanted = SampleRequest(images=2, steps=2, guidance=guidance, seed=SEED, resolution=8, **request)
    (images,) = sample_models([folder], [], wanted, torch.device("cpu"))
    return (images.images / 2 + 0.5).clamp(0, 1)


def require_exact_soup(models: Sequence[Path], folder: Path, running: Any) -> Path:
    """The soup of two trained models: diffusers loads it, and the second is removed exactly."""
    soup, left = folder / "soup", folder / "left"
    verbs.average(verbs.Request([verbs.Ingredient(each) for each in models], soup, keep_sum=True))
    verbs.revise(verbs.Revision("subtract", soup, left, removed=list(models[1:])))

    part = running.read_base(models[0]).denoiser
    name = f"{part}/diffusion_pytorch_model.safetensors"
    first, second, mean, rest = (running.load_file(each / name) for each in (*models, soup, left))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert first.keys() == rest.keys()
    assert all(torch.equal(first[name], rest[name]) for name in first)
    loaded = getattr(pipeline(soup), part).state_dict()
    assert mean.keys() == loaded.keys()
    assert all(torch.equal(mean[name], loaded[name]) for name in mean)
    return soup


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
