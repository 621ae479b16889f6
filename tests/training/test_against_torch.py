"""Bases of captions, of classes and of neither train as plain torch does, and draw as diffusers.

Rule 1: what is compared is compared to the bit. The other families are in test_families.py.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler
from family_images import PROMPTS, batch_of, drawn, images_of, noise_of, pipeline, with_ddim
from torch.nn import functional

from soupctl.choices import Prediction
from soupctl.training.loader import Batch
from soupctl.training.train_denoiser import loss_function

FAMILIES = ("text", "class", "dit", "plain")
TIMESTEPS = (10, 900)
GAMMA = 5.0
WEIGHTINGS = [
    (None, Prediction.AUTO),
    (GAMMA, Prediction.EPSILON),
    (GAMMA, Prediction.VELOCITY),
    (GAMMA, Prediction.SAMPLE),
]
"""The gamma of min-SNR, and what is predicted."""


def batch_for(family: str) -> Batch:
    """Two images of the kind that a family takes."""
    batch = batch_of(4, TIMESTEPS)
    if family in ("class", "dit"):
        batch = replace(batch, labels=torch.tensor([2, 0]))
    if family in ("class", "plain"):
        channels = 1 if family == "class" else 3
        pixels = batch.images[:, :channels]
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(6))
        batch = replace(batch, images=pixels, noise=noise, latent_noise=None)
    return batch


def loss_by_hand(
    own: Any, batch: Batch, gamma: float | None, prediction: Prediction
) -> torch.Tensor:
    """The loss of a batch, written out; the weights are those of Hang et al. 2023."""
    samples, words = batch.images, {}
    if batch.latent_noise is not None:
        with torch.no_grad():
            posterior = own.vae.encode(samples).latent_dist
        latents = posterior.mean + posterior.std * batch.latent_noise
        samples = latents * own.vae.config.scaling_factor
    if batch.labels is not None:
        words["class_labels"] = batch.labels
    if hasattr(own, "text_encoder"):
        with torch.no_grad():
            words["encoder_hidden_states"] = own.encode_prompt(
                list(batch.captions), "cpu", 1, do_classifier_free_guidance=False
            )[0]
    shares = DDPMScheduler.from_config(own.scheduler.config).alphas_cumprod[batch.timesteps]
    signal, spread = (each[:, None, None, None] for each in (shares.sqrt(), (1 - shares).sqrt()))
    model = own.transformer if hasattr(own, "transformer") else own.unet
    model.zero_grad()
    noisy = signal * samples + spread * batch.noise
    predicted = model(noisy, timestep=batch.timesteps, **words).sample[:, : noisy.shape[1]]
    target = {
        Prediction.EPSILON: batch.noise,
        Prediction.VELOCITY: signal * batch.noise - spread * samples,
        Prediction.SAMPLE: samples,
    }[Prediction.EPSILON if prediction is Prediction.AUTO else prediction]
    errors = functional.mse_loss(predicted, target, reduction="none").mean(dim=(1, 2, 3))
    if gamma is not None:
        ratio = shares / (1 - shares)
        least = ratio.clamp(max=gamma)
        errors = (
            errors
            * {
                Prediction.EPSILON: least / ratio,
                Prediction.VELOCITY: least / (ratio + 1),
                Prediction.SAMPLE: least,
            }[prediction]
        )
    loss = errors.mean()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_has_the_loss_and_gradient_of_plain_torch(family, running, bases, shards, tmp_path):
    own, batch = pipeline(bases[family]), batch_for(family)
    model = own.transformer if family == "dit" else own.unet
    losses = set()
    for gamma, prediction in WEIGHTINGS:
        options = {"snr_gamma": gamma, "prediction": prediction}
        (run,) = running.prepared_runs(bases[family], [shards[family]], tmp_path, **options)
        models = running.load_models(run.base)

        found = loss_function(run, models)(models.denoiser, batch)
        found.backward()

        assert torch.equal(loss_by_hand(own, batch, gamma, prediction), found.detach())
        expected = {name: each.grad for name, each in model.named_parameters()}
        # an embedding of another null class, and a last layer's other half, may be unused
        used = {name: each.grad for name, each in models.denoiser.named_parameters()}
        assert expected.keys() == used.keys()
        for name, gradient in expected.items():
            assert torch.equal(used[name], gradient), name
        losses.add(float(found.detach()))
    assert len(losses) == len(WEIGHTINGS)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_images_of_captions_are_those_of_diffusers_to_the_bit(bases, running, guidance):
    own = with_ddim(pipeline(bases["text"]))
    expected = images_of(own, bases["text"], running, guidance_scale=guidance)

    found = drawn(bases["text"], guidance, prompts=PROMPTS)

    assert torch.equal(expected, found)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
        },
        {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "skip_prk_steps": True},
        {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction"},
        {"prediction_type": "sample", "set_alpha_to_one": True},
    ],
    ids=lambda changes: changes.get("_class_name", changes.get("prediction_type")),
)
def test_they_are_with_the_scheduler_of_the_base(bases, running, tmp_path, changes):
    base = shutil.copytree(bases["text"], tmp_path / "base")
    path = base / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    if "_class_name" in changes:
        listing = json.loads((base / "model_index.json").read_text())
        listing["scheduler"][1] = changes["_class_name"]
        (base / "model_index.json").write_text(json.dumps(listing))
    expected = images_of(with_ddim(pipeline(base)), base, running, guidance_scale=7.5)

    found = drawn(base, 7.5, prompts=PROMPTS)

    assert torch.equal(expected, found)
    assert not torch.equal(expected, drawn(bases["text"], 7.5, prompts=PROMPTS))


def test_they_are_with_the_weights_of_a_variant(bases, running, tmp_path):
    base = tmp_path / "base"
    pipeline(bases["text"]).to(torch.float16).save_pretrained(base, variant="fp16")
    own = pipeline(base, variant="fp16", dtype=torch.float32)
    expected = images_of(with_ddim(own), base, running, guidance_scale=7.5)

    found = drawn(base, 7.5, prompts=PROMPTS, variant="fp16")

    assert torch.equal(expected, found)
    assert not torch.equal(expected, drawn(bases["text"], 7.5, prompts=PROMPTS))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_images_of_a_dit_are_those_of_diffusers_to_the_bit(
    tiny, running, monkeypatch, tmp_path, guidance
):
    # the null class of diffusers' pipeline is the thousandth
    base = tiny.dit_base(tmp_path / "base", classes=1000)
    own, noise = with_ddim(pipeline(base)), noise_of(base, running)
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda **_: noise)
    expected = own([207, 3], guidance_scale=guidance, num_inference_steps=2, output_type="pt")

    found = drawn(base, guidance, classes=(207, 3))

    assert expected.images.std() > 0.01
    assert torch.equal(expected.images, found)


def test_images_of_no_caption_are_those_of_diffusers_to_the_bit(bases, running, monkeypatch):
    own = pipeline(bases["plain"])
    noise = noise_of(bases["plain"], running, 8)
    place = "diffusers.pipelines.ddim.pipeline_ddim.randn_tensor"
    monkeypatch.setattr(place, lambda *_, **_more: noise)
    scheduled = DDIMPipeline(own.unet, own.scheduler)
    scheduled.set_progress_bar_config(disable=True)

    expected = scheduled(batch_size=2, num_inference_steps=2, output_type="pt").images

    assert expected.std() > 0.01
    assert torch.equal(expected, drawn(bases["plain"], None))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_images_of_classes_are_those_of_diffusers_scheduler_to_the_bit(bases, running, guidance):
    # diffusers has no pipeline for them; the last of four classes is none
    own = pipeline(bases["class"])
    images = noise_of(bases["class"], running, 8)
    scheduler = DDIMScheduler.from_config(own.scheduler.config)
    scheduler.set_timesteps(2)
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            shown, none = (
                own.unet(images, timestep, torch.tensor(classes)).sample
                for classes in ([2, 0], [3, 3])
            )
            predicted = none + guidance * (shown - none) if guidance > 1 else shown
            images = scheduler.step(predicted, timestep, images).prev_sample

    found = drawn(bases["class"], guidance, classes=(2, 0), null_class=3)

    assert torch.equal((images / 2 + 0.5).clamp(0, 1), found)
