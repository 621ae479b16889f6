"""Fields of published configs mean what they meant to the program that wrote them."""

from __future__ import annotations

import json
import shutil

import diffusers
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.pipelines.ddim import pipeline_ddim
from edited_bases import edit, edited, loaded

from soupctl.choices import Prediction
from soupctl.diffusion.loading import load_scheduler
from soupctl.diffusion.objective import objective_of
from soupctl.diffusion.sampling import initial_noise, sampler_of
from soupctl.errors import MismatchError
from soupctl.images.compare import sample_models
from soupctl.images.request import SampleRequest

SPARSE = {
    "unet/config.json": ("in_channels", "out_channels", "act_fn", "norm_eps"),
    "vae/config.json": ("in_channels", "latent_channels", "scaling_factor", "force_upcast"),
    "scheduler/scheduler_config.json": ("beta_start", "beta_end", "num_train_timesteps"),
    "text_encoder/config.json": ("projection_dim", "layer_norm_eps"),
    "tokenizer/tokenizer_config.json": ("model_max_length",),
}


def test_fields_that_are_missing_have_the_defaults_of_their_classes(bases, running, tmp_path):
    whole = running.read_base_setup(bases["text"], running.Options(steps=1), None)
    shutil.copytree(bases["text"], tmp_path / "base")
    for config, fields in SPARSE.items():
        edit(tmp_path / "base" / config, fields)

    sparse = running.read_base_setup(tmp_path / "base", running.Options(steps=1), None)

    assert whole.input_spec == sparse.input_spec
    assert torch.equal(whole.objective.alpha_bars, sparse.objective.alpha_bars)
    assert whole.base.configs == sparse.base.configs


def test_a_schedulers_missing_fields_are_those_of_its_own_class(bases, running, tmp_path):
    base = edited(
        *(bases["plain"], tmp_path / "base", "scheduler/scheduler_config.json"),
        ("beta_start", "beta_end", "beta_schedule"),
        _class_name="LCMScheduler",
    )

    scheduler = load_scheduler(running.read_base(base))

    assert (0.00085, 0.012, "scaled_linear") == (
        scheduler.config.beta_start,
        scheduler.config.beta_end,
        scheduler.config.beta_schedule,
    )


@pytest.mark.parametrize("length", ["absent", None, int(1e30), 1e30, 10**19])
def test_captions_are_as_long_as_the_text_encoder_takes_if_the_tokenizer_says_nothing(
    bases, running, tmp_path, length
):
    config = "tokenizer/tokenizer_config.json"
    base = edited(bases["text"], tmp_path / "base", config, ("model_max_length",))
    if length != "absent":
        edit(base / config, model_max_length=length)
    encoder = json.loads((base / "text_encoder/config.json").read_text())

    models = running.load_models(running.read_base(base))

    assert models.tokenizers["tokenizer"].model_max_length == encoder["max_position_embeddings"]


def test_a_tokenizer_may_have_vocabularies_and_no_config(bases, running, tmp_path):
    shutil.copytree(bases["text"], tmp_path / "base")
    (tmp_path / "base/tokenizer/tokenizer_config.json").unlink()

    assert running.read_base(tmp_path / "base").configs["tokenizer"]["model_max_length"] > 0


def test_a_square_size_may_be_a_list(bases, running, tmp_path):
    base = edited(bases["plain"], tmp_path / "base", "unet/config.json", sample_size=[8, 8])

    setup = running.read_base_setup(base, running.Options(steps=1), None)

    assert setup.input_spec.resolution == 8


def test_a_size_that_is_not_square_is_shown(bases, running, tmp_path):
    base = edited(bases["plain"], tmp_path / "base", "unet/config.json", sample_size=[8, 16])

    with pytest.raises(MismatchError, match=r"8 by 16 .* not square ones \(give resolution\)"):
        running.read_base_setup(base, running.Options(steps=1), None)


@pytest.mark.parametrize(
    ("family", "part", "name"),
    [
        ("plain", "unet", "UNetUnconditionalModel"),
        ("text", "unet", "UNetConditionalModel"),
        ("text", "unet", "FlaxUNet2DConditionModel"),
        ("text", "vae", "FlaxAutoencoderKL"),
    ],
)
def test_a_class_may_have_its_earlier_name(bases, running, tmp_path, family, part, name):
    base = edited(bases[family], tmp_path / "base", f"{part}/config.json", _class_name=name)
    edit(base / "model_index.json", **{part: ["diffusers", name]})

    setup = running.read_base_setup(base, running.Options(steps=1), None)

    assert setup.base.class_name == running.read_base(bases[family]).class_name


def test_a_base_that_predicted_images_before_the_field_was_renamed_still_does(
    bases, running, shards, tmp_path
):
    base = edited(
        *(bases["plain"], tmp_path / "base", "scheduler/scheduler_config.json"),
        ("prediction_type",),
        predict_epsilon=False,
    )

    running.run(base, shards["plain"], tmp_path / "run", running.ReporterSpy(), steps=1)

    assert loaded(tmp_path / "run/model").scheduler.config.prediction_type == "sample"


@pytest.mark.parametrize("schedule", ["sigmoid", "laplace", "linear", "squaredcos_cap_v2"])
def test_images_are_drawn_with_the_noise_that_a_base_was_trained_on(
    tiny, running, tmp_path, schedule
):
    base = running.read_base(tiny.plain_base(tmp_path / "base", beta_schedule=schedule))
    scheduler = load_scheduler(base)

    objective = objective_of(scheduler, Prediction.AUTO, None)
    sampler = sampler_of(scheduler, objective, is_clipped=base.is_clipped)

    expected = DDPMScheduler(beta_schedule=schedule).alphas_cumprod
    assert torch.equal(expected, objective.alpha_bars)
    assert torch.equal(expected, sampler.alphas_cumprod)


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "EulerDiscreteScheduler"},
        {"_class_name": "DDIMScheduler"},
        {"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid", "prediction_type": "sample"},
    ],
)
def test_latents_are_never_clipped_whatever_fields_the_scheduler_has(
    bases, running, tmp_path, config
):
    base = shutil.copytree(bases["text"], tmp_path / "base")
    given = {"beta_start": 0.001, "beta_end": 0.01, **config}
    (base / "scheduler/scheduler_config.json").write_text(json.dumps(given))
    read = running.read_base(base)
    scheduler = load_scheduler(read)

    objective = objective_of(scheduler, Prediction.VELOCITY, None)
    sampler = sampler_of(scheduler, objective, is_clipped=read.is_clipped)

    assert (False, "v_prediction") == (sampler.config.clip_sample, sampler.config.prediction_type)
    assert torch.equal(scheduler.alphas_cumprod, sampler.alphas_cumprod)


@pytest.mark.parametrize("is_clipped", [True, False])
def test_images_of_pixels_are_clipped_as_diffusers_does_it(tiny, tmp_path, monkeypatch, is_clipped):
    base = tiny.plain_base(tmp_path / "base", clip_sample=is_clipped)
    noise = torch.stack([initial_noise((3, 8, 8), 7, f"image {each}") for each in range(2)])
    monkeypatch.setattr(pipeline_ddim, "randn_tensor", lambda *_, **__: noise)
    own = diffusers.DDIMPipeline.from_pretrained(base)
    own.set_progress_bar_config(disable=True)
    expected = own(2, num_inference_steps=3, output_type="np").images

    request = SampleRequest((), images=2, steps=3, guidance=None, seed=7)
    (found,) = sample_models([base], [], request, torch.device("cpu"))

    images = (found.images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.equal(torch.from_numpy(expected), images)


@pytest.mark.parametrize("kind", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
def test_schedulers_are_read_as_diffusers_writes_them_with_infinities_and_nulls(
    bases, running, tmp_path, kind
):
    base = shutil.copytree(bases["text"], tmp_path / "base")
    getattr(diffusers, kind)(beta_end=0.01).save_pretrained(base / "scheduler")
    assert "-Infinity" in (base / "scheduler/scheduler_config.json").read_text()

    scheduler = load_scheduler(running.read_base(base))

    expected = DDPMScheduler(beta_end=0.01).alphas_cumprod
    assert torch.equal(expected, scheduler.alphas_cumprod)


OTHER_NOISE = {
    "EDMEulerScheduler": {"_class_name": "EDMEulerScheduler"},
    "FlowMatchEulerDiscreteScheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    "use_flow_sigmas": {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True},
    "flow_prediction": {"prediction_type": "flow_prediction"},
    "timestep_type": {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
}


def test_a_distilled_model_that_embeds_the_guidance_scale_is_refused(bases, running, tmp_path):
    base = edited(bases["text"], tmp_path / "base", "unet/config.json", time_cond_proj_dim=8)

    with pytest.raises(MismatchError, match=r"unet: embeds the guidance scale \(time_cond_proj"):
        running.read_base(base)


@pytest.mark.parametrize("kind", OTHER_NOISE)
@pytest.mark.parametrize("is_listed", [True, False])
def test_other_noise_than_discrete_steps_with_betas_is_refused(
    bases, running, tmp_path, kind, is_listed
):
    config = "scheduler/scheduler_config.json"
    base = edited(bases["plain"], tmp_path / "base", config, **OTHER_NOISE[kind])
    if is_listed and "_class_name" in OTHER_NOISE[kind]:
        edit(base / "model_index.json", scheduler=["diffusers", OTHER_NOISE[kind]["_class_name"]])

    with pytest.raises(MismatchError, match=kind) as refusal:
        running.read_base_setup(base, running.Options(steps=1), None)

    assert "\n" not in refusal.value.message()
