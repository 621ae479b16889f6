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
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import (
    compute_density_for_timestep_sampling,
    compute_loss_weighting_for_sd3,
)
from family_images import PROMPTS, batch_of, images_of, pipeline, with_ddim
from family_images import drawn as images_drawn

from soupctl.choices import Prediction, Weighting
from soupctl.diffusion import rng
from soupctl.diffusion.flow import draw_timestep
from soupctl.errors import UsageError
from soupctl.training.loader import Batch
from soupctl.training.train_denoiser import loss_function

TRAINED = ("sdxl", "sd3", "flux")


@pytest.fixture(scope="session")
def pipelines(families) -> dict[str, Any]:
    """The pipeline of each base, as diffusers loads it."""
    return {name: pipeline(folder) for name, folder in families.items()}


def drawn(folder: Path, guidance: float | None) -> torch.Tensor:
    """The images that `sample` makes of two prompts."""
    return images_drawn(folder, guidance, prompts=PROMPTS)


@pytest.mark.parametrize(
    ("family", "guidance", "options"),
    [
        ("sdxl", 1.0, {"guidance_scale": 1.0}),
        ("sdxl", 5.0, {"guidance_scale": 5.0}),
        ("sd3", 1.0, {"guidance_scale": 1.0}),
        ("sd3", 5.0, {"guidance_scale": 5.0}),
        ("sd3_clip", 5.0, {"guidance_scale": 5.0}),
        ("flux", 3.5, {"guidance_scale": 3.5}),
        ("flux", 1.0, {"guidance_scale": 1.0}),
        ("schnell", 1.0, {}),
        ("schnell", 2.0, {"true_cfg_scale": 2.0, "negative_prompt": ["", ""]}),
    ],
)
def test_images_are_those_of_diffusers_to_the_bit(families, running, family, guidance, options):
    own = pipeline(families[family])
    expected = images_of(
        own if running.read_base(families[family]).family.is_flow else with_ddim(own),
        *(families[family], running),
        **options,
    )

    found = drawn(families[family], guidance)

    assert torch.equal(expected, found)


@pytest.mark.parametrize(("family", "guidance"), [("sdxl", 3.0), ("flux", 3.5), ("schnell", 1.0)])
def test_the_default_guidance_is_that_of_the_family(families, family, guidance):
    assert torch.equal(drawn(families[family], None), drawn(families[family], guidance))


def test_sdxl_is_guided_away_from_an_empty_caption_if_its_list_says_so(families, running, tmp_path):
    base = shutil.copytree(families["sdxl"], tmp_path / "base")
    listing = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(
        json.dumps({**listing, "force_zeros_for_empty_prompt": False})
    )
    expected = images_of(with_ddim(pipeline(base)), base, running, guidance_scale=5.0)

    found = drawn(base, 5.0)

    assert torch.equal(expected, found)
    assert not torch.equal(found, drawn(families["sdxl"], 5.0))


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


def flow_step(
    own: Any, batch: Batch, predict: Any, weighting: str, *, preconditioned: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and gradient of a batch as diffusers' scripts for flow matching compute them.

    Timesteps count from the one with least noise; diffusers counts from the other end.
    """
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(own.scheduler.config)
    with torch.no_grad():
        latents = latents_of(own.vae, batch)
    indices = scheduler.config.num_train_timesteps - 1 - batch.timesteps
    timesteps = scheduler.timesteps[indices]
    sigmas = scheduler.sigmas[indices].reshape(-1, 1, 1, 1)
    noisy = (1.0 - sigmas) * latents + sigmas * batch.noise
    own.transformer.zero_grad()
    predicted = predict(own, noisy, timesteps, list(batch.captions))
    target = batch.noise - latents
    if preconditioned:
        predicted, target = predicted * (-sigmas) + noisy, latents
    weights = compute_loss_weighting_for_sd3(weighting, sigmas)
    errors = weights.float() * (predicted.float() - target.float()) ** 2
    loss = errors.reshape(len(errors), -1).mean(1).mean()
    loss.backward()
    return loss.detach(), gradient(own.transformer)


def predict_sd3(
    own: Any, noisy: torch.Tensor, timesteps: torch.Tensor, captions: list[str]
) -> torch.Tensor:
    with torch.no_grad():
        states, _, pooled, _ = own.encode_prompt(
            captions, None, None, do_classifier_free_guidance=False
        )
    return own.transformer(
        hidden_states=noisy,
        timestep=timesteps,
        encoder_hidden_states=states,
        pooled_projections=pooled,
        return_dict=False,
    )[0]


def predict_flux(
    own: Any, noisy: torch.Tensor, timesteps: torch.Tensor, captions: list[str]
) -> torch.Tensor:
    with torch.no_grad():
        states, pooled, text_ids = own.encode_prompt(captions, None)
    count, _, height, width = noisy.shape
    guidance = None
    if own.transformer.config.guidance_embeds:
        guidance = torch.full((count,), 3.5)
    predicted = own.transformer(
        hidden_states=own._pack_latents(noisy, *noisy.shape),
        timestep=timesteps / 1000,
        guidance=guidance,
        pooled_projections=pooled,
        encoder_hidden_states=states,
        txt_ids=text_ids,
        img_ids=own._prepare_latent_image_ids(count, height // 2, width // 2, "cpu", torch.float32),
        return_dict=False,
    )[0]
    return own._unpack_latents(predicted, 2 * height, 2 * width, 2)


@pytest.mark.parametrize(
    ("family", "weighting", "preconditioned"),
    [
        ("sd3", "none", False),
        ("sd3", "logit_normal", True),
        ("sd3", "sigma_sqrt", True),
        ("sd3", "cosmap", False),
        ("sd3_clip", "mode", False),
        ("flux", "none", False),
        ("flux", "cosmap", False),
        ("schnell", "sigma_sqrt", False),
    ],
)
def test_a_step_of_flow_matching_has_the_loss_and_gradient_of_diffusers_scripts(
    families, pipelines, shards, running, tmp_path, family, weighting, preconditioned
):
    batch = batch_of(4, (10, 900))
    predict = predict_sd3 if family.startswith("sd3") else predict_flux
    expected = flow_step(
        pipelines[family], batch, predict, weighting, preconditioned=preconditioned
    )
    options = {"weighting": Weighting(weighting), "precondition_outputs": preconditioned}
    options |= {"resolution": 8}

    found = step_of(running, families[family], shards["text"], batch, tmp_path, **options)

    require_same(found, expected)


def test_a_shift_replaces_that_of_the_base_in_training(families, running):
    options = running.Options(steps=1, shift=5.0)

    setup = running.read_base_setup(families["sd3"], options, None)

    expected = FlowMatchEulerDiscreteScheduler(shift=5.0)
    assert torch.equal(expected.sigmas.flip(0), setup.objective.shares)
    assert torch.equal(expected.timesteps.flip(0), setup.objective.told(torch.arange(1000)))
    assert setup.scheduler.config.shift == 3.0


@pytest.mark.parametrize("weighting", list(Weighting))
def test_timesteps_are_drawn_with_the_densities_of_diffusers(monkeypatch, weighting):
    spread = (0.5, 2.0, 1.29)
    found = [
        draw_timestep(range(1000), weighting, spread, seed=3, position=each) for each in range(50)
    ]

    normals = [float(rng.normal((), 3, "timestep", each)) for each in range(50)]
    uniforms = [rng.uniform(3, "timestep", each) for each in range(50)]
    monkeypatch.setattr(
        torch, "normal", lambda mean, std, **_: mean + std * torch.tensor(normals).double()
    )
    monkeypatch.setattr(torch, "rand", lambda **_: torch.tensor(uniforms).double())
    shares = compute_density_for_timestep_sampling(weighting.value, 50, *spread)
    assert found == (999 - (shares * 1000).long()).tolist()
    assert len(set(found)) > 20


def test_timesteps_stay_within_the_range_that_is_trained():
    for weighting in Weighting:
        drawn_ones = [
            draw_timestep(range(200, 210), weighting, (0.0, 50.0, 1.29), 0, each)
            for each in range(50)
        ]
        assert set(drawn_ones) <= set(range(200, 210))


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("sd3", {"snr_gamma": 5.0}, "flow matching, which has no snr-gamma"),
        ("sd3", {"prediction": Prediction.EPSILON}, "flow matching, which has no prediction"),
        ("sdxl", {"weighting": Weighting.MODE}, "not trained by flow matching, and has no weight"),
        ("sdxl", {"shift": 2.0}, "not trained by flow matching, and has no shift"),
        ("sdxl", {"prediction": Prediction.FLOW}, "flow_prediction works with bases of flow"),
    ],
)
def test_options_of_the_other_kind_of_training_are_refused(
    families, running, family, options, words
):
    with pytest.raises(UsageError, match=words):
        running.read_base_setup(families[family], running.Options(steps=1, **options), None)


@pytest.mark.parametrize("family", TRAINED)
def test_a_resumed_run_equals_an_uninterrupted_one(families, running, shards, tmp_path, family):
    options = {"save_every": 1, "keep": 3, "flip": True, "random_crop": True, "resolution": 8}
    spy = running.ReporterSpy()
    whole = running.run(families[family], shards["text"], tmp_path / "a", spy, steps=2, **options)
    half = running.run(families[family], shards["text"], tmp_path / "b", spy, steps=1, **options)

    resumed = running.run(families[family], shards["text"], tmp_path / "b", spy, steps=2, **options)

    assert half.digest != resumed.digest == whole.digest
