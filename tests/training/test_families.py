"""Each family of denoisers trains and samples as diffusers does, whose pipelines are the oracle.

Rule 1: a pipeline is built once; what is compared is compared to the bit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline

from soupctl import verbs
from soupctl.diffusion.sampling import initial_noise
from soupctl.images.compare import sample_models
from soupctl.images.request import SampleRequest
from soupctl.training.loader import Batch
from soupctl.training.train_denoiser import loss_function

PROMPTS = ("a red circle", "a bar on white")
FAMILIES = ("sdxl",)
SEED = 7


@pytest.fixture(scope="session")
def families(tiny, tmp_path_factory) -> dict[str, Path]:
    """A base of each family."""
    builders = pytest.importorskip("tiny_families")
    folder = tmp_path_factory.mktemp("families")
    return {name: getattr(builders, f"{name}_base")(folder / name) for name in FAMILIES}


@pytest.fixture(scope="session")
def pipelines(families) -> dict[str, Any]:
    """The pipeline of each base, as diffusers loads it."""
    return {name: pipeline(folder) for name, folder in families.items()}


def pipeline(folder: Path) -> Any:
    loaded = DiffusionPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def drawn(folder: Path, guidance: float, steps: int = 2) -> torch.Tensor:
    """The images that `sample` makes of two prompts."""
    request = SampleRequest(PROMPTS, images=2, steps=steps, guidance=guidance, seed=SEED)
    (images,) = sample_models([folder], [], request, torch.device("cpu"))
    return images.images


def noise_of(folder: Path, running: Any) -> torch.Tensor:
    """The noise that these images start from."""
    base = running.read_base(folder)
    shape = (base.channels, 4, 4)
    return torch.stack([initial_noise(shape, SEED, f"image {number}") for number in range(2)])


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_images_of_sdxl_are_those_of_diffusers_to_the_bit(families, pipelines, running, guidance):
    own = pipelines["sdxl"]
    kept, own.scheduler = own.scheduler, DDIMScheduler.from_config(own.scheduler.config)
    own.scheduler.register_to_config(clip_sample=False)
    expected = own(
        list(PROMPTS),
        latents=noise_of(families["sdxl"], running),
        num_inference_steps=2,
        guidance_scale=guidance,
        height=8,
        width=8,
        output_type="pt",
    ).images
    own.scheduler = kept

    found = drawn(families["sdxl"], guidance)

    assert torch.equal(expected, (found / 2 + 0.5).clamp(0, 1))
    assert expected.std() > 0.01


def test_sdxl_is_guided_away_from_an_empty_caption_if_its_list_says_so(families, running, tmp_path):
    base = shutil.copytree(families["sdxl"], tmp_path / "base")
    listing = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(
        json.dumps({**listing, "force_zeros_for_empty_prompt": False})
    )
    own = pipeline(base)
    own.scheduler = DDIMScheduler.from_config(own.scheduler.config, clip_sample=False)
    expected = own(
        list(PROMPTS),
        latents=noise_of(base, running),
        num_inference_steps=2,
        guidance_scale=5.0,
        height=8,
        width=8,
        output_type="pt",
    ).images

    found = drawn(base, 5.0)

    assert torch.equal(expected, (found / 2 + 0.5).clamp(0, 1))
    assert not torch.equal(found, drawn(families["sdxl"], 5.0))


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


def step_of(
    running: Any, base: Path, shard: Path, batch: Batch, output: Path, **options: object
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch and its gradient, as training computes them."""
    (run,) = running.prepared_runs(base, [shard], output, **options)
    models = running.load_models(run.base)
    loss = loss_function(run, models)(models.denoiser, batch)
    loss.backward()
    return loss.detach(), gradient(models.denoiser)


def gradient(model: Any) -> dict[str, torch.Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def require_same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    """Losses and gradients are equal to the bit, and there are some."""
    assert found[0] == expected[0] > 0
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(found[1][name], expected[1][name]) for name in expected[1])


def latents_of(vae: Any, batch: Batch) -> torch.Tensor:
    """Scaled latents, drawn with the batch's noise, in the manner of diffusers' scripts."""
    posterior = vae.encode(batch.images).latent_dist
    latents = posterior.mean + posterior.std * batch.latent_noise
    return (latents - (vae.config.shift_factor or 0)) * vae.config.scaling_factor


def test_a_step_of_sdxl_has_the_loss_and_gradient_of_plain_torch(
    families, pipelines, shards, running, tmp_path
):
    batch = batch_of(4, (10, 900))
    own = pipelines["sdxl"]
    scheduler = DDPMScheduler.from_config(own.scheduler.config)
    with torch.no_grad():
        states, _, pooled, _ = own.encode_prompt(
            list(batch.captions), do_classifier_free_guidance=False
        )
        latents = latents_of(own.vae, batch)
    own.unet.zero_grad()
    predicted = own.unet(
        scheduler.add_noise(latents, batch.noise, batch.timesteps),
        batch.timesteps,
        states,
        added_cond_kwargs={"text_embeds": pooled, "time_ids": batch.frames},
        return_dict=False,
    )[0]
    expected = (predicted - batch.noise).square().mean(dim=(1, 2, 3)).mean()
    expected.backward()

    found = step_of(running, families["sdxl"], shards["text"], batch, tmp_path)

    require_same(found, (expected.detach(), gradient(own.unet)))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_data_shards_average_and_one_is_removed_exactly(
    families, running, shards, tiny, tmp_path, family
):
    other = tiny.captioned_shard(tmp_path / "other", 2)
    for name, shard in (("one", shards["text"]), ("two", other)):
        running.run(families[family], shard, tmp_path / name, running.ReporterSpy(), steps=1)
    models = [tmp_path / name / "model" for name in ("one", "two")]

    verbs.average(verbs.Request(models, tmp_path / "soup", keep_sum=True))
    removal = verbs.Revision("subtract", tmp_path / "soup", tmp_path / "left", removed=models[1:])
    verbs.revise(removal)

    folder = running.read_base(models[0]).denoiser
    weights = f"{folder}/diffusion_pytorch_model.safetensors"
    first, second, soup, left = (
        running.load_file(each / weights)
        for each in (*models, tmp_path / "soup", tmp_path / "left")
    )
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(first[name], left[name]) for name in first)
    loaded = getattr(pipeline(tmp_path / "soup"), folder).state_dict()
    assert all(torch.equal(soup[name], loaded[name]) for name in soup)
    assert not torch.equal(drawn(tmp_path / "soup", 2.0), drawn(families[family], 2.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_run_equals_an_uninterrupted_one(families, running, shards, tmp_path, family):
    options = {"save_every": 1, "keep": 3, "flip": True, "random_crop": True}
    spy = running.ReporterSpy()
    whole = running.run(families[family], shards["text"], tmp_path / "a", spy, steps=2, **options)
    half = running.run(families[family], shards["text"], tmp_path / "b", spy, steps=1, **options)

    resumed = running.run(families[family], shards["text"], tmp_path / "b", spy, steps=2, **options)

    assert half.digest != resumed.digest == whole.digest
