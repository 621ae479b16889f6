"""A denoiser of the latents of a VQModel trains on latents, and is sampled as diffusers does it.

Rule 1: what is compared with diffusers is compared to the bit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.deprecated.latent_diffusion_uncond import (
    pipeline_latent_diffusion_uncond as published,
)
from safetensors.torch import load_file

from soupctl import verbs
from soupctl.diffusion.sampling import initial_noise
from soupctl.errors import InputError, MismatchError
from soupctl.images.compare import sample_models
from soupctl.images.request import SampleRequest
from soupctl.training.loader import Batch
from soupctl.training.train_denoiser import loss_function

SEED, STEPS = 7, 3


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory) -> Path:
    return tiny.latent_base(tmp_path_factory.mktemp("latent") / "base")


def drawn(folder: Path) -> torch.Tensor:
    """The images that `sample` makes, in [-1, 1]."""
    request = SampleRequest((), images=2, steps=STEPS, guidance=None, seed=SEED)
    (images,) = sample_models([folder], [], request, torch.device("cpu"))
    return images.images


def drawn_by_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The images that diffusers' pipeline makes of the same noise, in [0, 1]."""
    pipe = diffusers.LDMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.stack([initial_noise((3, 4, 4), SEED, f"image {each}") for each in range(2)])
    monkeypatch.setattr(published, "randn_tensor", lambda shape, generator: noise)
    found = pipe(2, num_inference_steps=STEPS, output_type="np").images
    return torch.from_numpy(found).permute(0, 3, 1, 2)


def test_images_are_those_of_diffusers_to_the_bit(base, monkeypatch):
    found = drawn(base)

    assert torch.equal(drawn_by_diffusers(base, monkeypatch), (found / 2 + 0.5).clamp(0, 1))
    assert len(found.unique()) > len(found)


@pytest.mark.parametrize("listed", [True, False])
def test_latents_are_clipped_if_the_scheduler_says_so(tiny, base, tmp_path, monkeypatch, listed):
    clipping = tiny.latent_base(tmp_path / "base", clip_sample=True, clip_sample_range=0.5)
    if not listed:
        # clipping is the scheduler's default
        config = clipping / "scheduler/scheduler_config.json"
        fields = json.loads(config.read_text())
        config.write_text(json.dumps({k: v for k, v in fields.items() if k != "clip_sample"}))

    found = drawn(clipping)

    assert torch.equal(drawn_by_diffusers(clipping, monkeypatch), (found / 2 + 0.5).clamp(0, 1))
    assert not torch.equal(found, drawn(base))


def batch(latent_noise: torch.Tensor | None) -> Batch:
    """Two images with noise."""
    numbers = torch.Generator().manual_seed(5)
    return Batch(
        images=2 * torch.rand(2, 3, 8, 8, generator=numbers) - 1,
        noise=torch.randn(2, 3, 4, 4, generator=numbers),
        latent_noise=latent_noise,
        timesteps=torch.tensor([10, 900]),
        captions=("", ""),
        labels=None,
        positions=(0, 1),
        frames=torch.zeros(2, 6),
    )


def test_a_step_has_the_loss_and_gradient_of_plain_torch_on_latents_before_they_are_quantised(
    base, shards, running, tmp_path
):
    (run,) = running.prepared_runs(base, [shards["plain"]], tmp_path)
    models, examples = running.load_models(run.base), batch(torch.randn(2, 3, 4, 4))
    own = diffusers.LDMPipeline.from_pretrained(base)
    scheduler = diffusers.DDPMScheduler.from_config(own.scheduler.config)
    with torch.no_grad():
        latents = own.vqvae.encode(examples.images).latents * own.vqvae.config.scaling_factor
        quantised = own.vqvae.quantize(latents)[0]
    noisy = scheduler.add_noise(latents, examples.noise, examples.timesteps)
    predicted = own.unet(noisy, examples.timesteps).sample
    expected = (predicted - examples.noise).square().mean(dim=(1, 2, 3)).mean()
    expected.backward()

    loss = loss_function(run, models)(models.denoiser, examples)
    loss.backward()

    assert loss == expected > 0
    assert not torch.equal(latents, quantised)
    wanted, found = (dict(each.named_parameters()) for each in (own.unet, models.denoiser))
    assert all(torch.equal(found[name].grad, each.grad) for name, each in wanted.items())


def test_cached_latents_change_no_weight(base, shards, running, tmp_path):
    def trained(name: str, **options: Any) -> dict[str, torch.Tensor]:
        out = tmp_path / name
        # one at a time, as the cache is filled: several may differ in the last bit
        more = {"steps": 2, "batch_size": 1, "ema": False, **options}
        running.run(base, shards["plain"], out, running.ReporterSpy(), **more)
        return load_file(out / "model/unet/diffusion_pytorch_model.safetensors")

    plain, cached = trained("plain"), trained("cached", cache_latents=True)

    start = load_file(base / "unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(plain[name], cached[name]) for name in plain)
    assert any(not torch.equal(plain[name], start[name]) for name in plain)


def test_two_data_shards_average_and_one_is_removed_exactly(
    base, shards, running, tmp_path, monkeypatch
):
    for name, data in (("a", "plain"), ("b", "class")):
        spy = running.ReporterSpy()
        running.run(base, shards[data], tmp_path / name, spy, steps=1, ema=False)
    models = [tmp_path / name / "model" for name in ("a", "b")]

    verbs.average(verbs.Request(models, tmp_path / "soup", keep_sum=True))
    removed = verbs.Revision("subtract", tmp_path / "soup", tmp_path / "left", removed=models[1:])
    verbs.revise(removed)

    first, left = (
        load_file(tmp_path / name / "unet/diffusion_pytorch_model.safetensors")
        for name in ("a/model", "left")
    )
    assert all(torch.equal(first[name], left[name]) for name in first)
    expected = drawn_by_diffusers(tmp_path / "soup", monkeypatch)
    assert torch.equal(expected, (drawn(tmp_path / "soup") / 2 + 0.5).clamp(0, 1))


def test_an_autoencoder_that_does_not_fit_is_refused(tiny, base, bases, running, tmp_path):
    other = shutil.copytree(base, tmp_path / "other")
    edit(other / "vqvae/config.json", vq_embed_dim=5)
    with pytest.raises(MismatchError, match="takes 3 channels, but the vqvae has 5"):
        running.read_base(other)

    lost = shutil.copytree(base, tmp_path / "lost")
    shutil.rmtree(lost / "vqvae")
    with pytest.raises(InputError, match="lost/vqvae: is missing, though model_index"):
        running.read_base(lost)

    both = shutil.copytree(base, tmp_path / "both")
    edit(both / "model_index.json", vae=["diffusers", "AutoencoderKL"])
    with pytest.raises(MismatchError, match="both/vqvae: is a VQModel, which soupctl does not use"):
        running.read_base(both)

    text = shutil.copytree(bases["text"], tmp_path / "text")
    edit(text / "model_index.json", vqvae=["diffusers", "VQModel"])
    with pytest.raises(MismatchError, match="text/vqvae: is a VQModel, which soupctl does not use"):
        running.read_base(text)

    renamed = shutil.copytree(base, tmp_path / "renamed")
    (renamed / "vqvae").rename(renamed / "vae")
    listing = json.loads((renamed / "model_index.json").read_text())
    listing["vae"] = listing.pop("vqvae")
    (renamed / "model_index.json").write_text(json.dumps(listing))
    with pytest.raises(MismatchError, match="is a VQModel; only AutoencoderKL is supported"):
        running.read_base(renamed)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
