"""Bases load as they were published: by any version of diffusers, or written by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from diffusers.pipelines.ddim import pipeline_ddim
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPVisionConfig

from soupctl import verbs
from soupctl.choices import Prediction
from soupctl.diffusion.loading import load_scheduler
from soupctl.diffusion.objective import objective_of
from soupctl.diffusion.sampling import initial_noise, sampler_of
from soupctl.errors import InputError, MismatchError
from soupctl.images.compare import sample_models
from soupctl.images.request import SampleRequest


def edit(path: Path, drop: Sequence[str] = (), **changes: object) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: content[key] for key in content if key not in drop}))


def edited(
    base: Path, copy: Path, config: str, drop: Sequence[str] = (), **changes: object
) -> Path:
    """A copy of a base with one of its configs changed."""
    shutil.copytree(base, copy)
    edit(copy / config, drop, **changes)
    return copy


def laid_out_at_the_root(base: Path, copy: Path) -> Path:
    """A copy of a pipeline with its files in one folder, as the first ones were published."""
    copy.mkdir()
    for path in (base / "model_index.json", *base.glob("unet/*"), *base.glob("scheduler/*")):
        shutil.copy(path, copy)
    return copy


def loaded(folder: Path) -> DiffusionPipeline:
    return DiffusionPipeline.from_pretrained(str(folder))


def test_a_dit_under_its_first_class_name_trains_and_loads_in_diffusers(
    bases, running, shards, tmp_path
):
    base = edited(
        *(bases["dit"], tmp_path / "base", "transformer/config.json"),
        _class_name="Transformer2DModel",
        cross_attention_dim=None,
        num_vector_embeds=None,
        only_cross_attention=False,
        use_linear_projection=False,
    )
    edit(base / "model_index.json", transformer=["diffusers", "Transformer2DModel"])

    running.run(base, shards["dit"], tmp_path / "run", running.ReporterSpy(), steps=1)

    plain = running.run(
        bases["dit"], shards["dit"], tmp_path / "plain", running.ReporterSpy(), steps=1
    )
    name = "transformer/diffusion_pytorch_model.safetensors"
    ours, theirs = (running.load_file(tmp_path / run / "model" / name) for run in ("run", "plain"))
    assert plain.steps == 1
    assert all(torch.equal(ours[each], theirs[each]) for each in theirs)
    assert type(loaded(tmp_path / "run/model").transformer).__name__ == "DiTTransformer2DModel"


def test_a_transformer_of_that_name_that_is_no_dit_is_refused(bases, running, tmp_path):
    base = edited(
        *(bases["dit"], tmp_path / "base", "transformer/config.json"),
        _class_name="Transformer2DModel",
        norm_type="ada_norm_single",
    )

    with pytest.raises(MismatchError, match="has class Transformer2DModel; supported are"):
        running.read_base(base)


def test_a_pipeline_in_one_folder_trains_averages_and_loads_in_diffusers(
    bases, running, shards, tmp_path
):
    base = laid_out_at_the_root(bases["plain"], tmp_path / "base")
    for name in ("plain", "class"):
        running.run(base, shards[name], tmp_path / name, running.ReporterSpy(), steps=1)
    models = [tmp_path / name / "model" for name in ("plain", "class")]

    verbs.average(verbs.Request(models, tmp_path / "soup"))

    weights = "diffusion_pytorch_model.safetensors"
    first, second, soup = (
        running.load_file(each / weights) for each in (*models, tmp_path / "soup")
    )
    name = "conv_in.weight"
    mean = ((first[name].double() + second[name].double()) / 2).float()
    assert torch.equal(mean, soup[name])
    assert torch.equal(loaded(tmp_path / "soup").unet.state_dict()[name], soup[name])


def test_the_noise_schedule_of_a_pipeline_in_one_folder_is_its_own(running, tiny, tmp_path):
    spread = tiny.plain_base(tmp_path / "spread", beta_end=0.5)

    base = running.read_base(laid_out_at_the_root(spread, tmp_path / "base"))

    assert load_scheduler(base).config.beta_end == 0.5


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


@pytest.mark.parametrize("length", [None, int(1e30)])
def test_captions_are_as_long_as_the_text_encoder_takes_if_the_tokenizer_says_nothing(
    bases, running, tmp_path, length
):
    config = "tokenizer/tokenizer_config.json"
    base = edited(bases["text"], tmp_path / "base", config, ("model_max_length",))
    if length is not None:
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


@pytest.mark.parametrize("component", ["unet", "vae"])
def test_a_config_that_names_no_class_is_of_the_class_in_the_list_of_the_pipeline(
    bases, running, tmp_path, component
):
    base = edited(bases["text"], tmp_path / "base", f"{component}/config.json", ("_class_name",))

    found, expected = running.read_base(base), running.read_base(bases["text"])

    assert found.configs[component] == expected.configs[component]


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


@pytest.mark.parametrize("listed", ["VQModel", "AutoencoderKL"])
def test_a_denoiser_of_latents_is_never_trained_on_pixels(bases, running, tmp_path, listed):
    shutil.copytree(bases["plain"], tmp_path / "base")
    edit(tmp_path / "base/model_index.json", vqvae=["diffusers", listed])

    with pytest.raises(InputError, match="base/vqvae: is missing, though model_index"):
        running.read_base(tmp_path / "base")


def test_an_autoencoder_that_is_called_vqvae_has_to_fit(tiny, bases, running, tmp_path):
    shutil.copytree(bases["plain"], tmp_path / "base")
    edit(tmp_path / "base/model_index.json", vqvae=["diffusers", "AutoencoderKL"])
    tiny.autoencoder().save_pretrained(tmp_path / "base/vqvae")

    with pytest.raises(MismatchError, match="takes 3 channels, but the vqvae has 4"):
        running.read_base(tmp_path / "base")


@pytest.mark.parametrize("is_listed", [True, False])
def test_of_a_unet_and_its_ema_the_unet_is_trained_and_published_alone(
    bases, running, shards, tmp_path, is_listed
):
    base = shutil.copytree(bases["plain"], tmp_path / "base")
    shutil.copytree(base / "unet", base / "unet_ema")
    (base / "unet_ema/diffusion_pytorch_model.safetensors").write_bytes(b"never opened")
    if is_listed:
        edit(base / "model_index.json", unet_ema=["diffusers", "UNet2DModel"])
    spy = running.ReporterSpy()

    setup = running.read_base_setup(base, running.Options(steps=1), None)
    running.run(base, shards["plain"], tmp_path / "run", spy, steps=1)

    assert "unet_ema is left out: training starts from unet" in setup.notices
    loaded(tmp_path / "run/model")
    listing = json.loads((tmp_path / "run/model/model_index.json").read_text())
    assert listing == json.loads((bases["plain"] / "model_index.json").read_text())
    assert not (tmp_path / "run/model/unet_ema").exists()


@pytest.mark.parametrize("part", ["vae", "scheduler"])
def test_a_part_that_a_pipeline_lists_has_to_be_there(bases, running, tmp_path, part):
    shutil.copytree(bases["text"], tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / part)

    with pytest.raises(InputError, match=f"base/{part}: is missing, though model_index.json"):
        running.read_base(tmp_path / "base")


def as_variant(base: Path, name: str, *, keep_plain: bool = False) -> Path:
    """The base with its weights renamed, or copied, to those of a variant."""
    for path in sorted(base.rglob("*.safetensors")):
        target = path.with_name(f"{path.stem}.{name}.safetensors")
        (shutil.copy if keep_plain else shutil.move)(path, target)
    return base


def test_a_base_of_one_variant_alone_trains_and_its_model_has_plain_names(
    bases, running, shards, tmp_path
):
    shutil.copytree(bases["dit"], tmp_path / "base")
    base = as_variant(tmp_path / "base", "fp16")

    running.run(base, shards["dit"], tmp_path / "run", running.ReporterSpy(), steps=1)

    found = sorted(path.name for path in (tmp_path / "run/model").rglob("*.safetensors"))
    assert found == ["diffusion_pytorch_model.safetensors"] * 2
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "run/model" / vae).read_bytes() == (bases["dit"] / vae).read_bytes()
    loaded(tmp_path / "run/model")


def test_of_several_variants_the_one_that_is_asked_for_is_read(bases, running, tmp_path):
    shutil.copytree(bases["text"], tmp_path / "base")
    base = as_variant(tmp_path / "base", "fp16", keep_plain=True)

    plain, other = (running.read_base(base, variant) for variant in (None, "fp16"))

    assert {path.name for each in plain.files.weights.values() for path in each.files} == {
        "diffusion_pytorch_model.safetensors",
        "model.safetensors",
    }
    assert all(
        path.name.endswith(".fp16.safetensors")
        for each in other.files.weights.values()
        for path in each.files
    )


def test_variants_without_plain_weights_are_refused_until_one_is_named(bases, running, tmp_path):
    shutil.copytree(bases["plain"], tmp_path / "base")
    base = as_variant(as_variant(tmp_path / "base", "ema", keep_plain=True), "fp16")
    (base / "unet/diffusion_pytorch_model.ema.fp16.safetensors").rename(
        base / "unet/diffusion_pytorch_model.ema.safetensors"
    )

    with pytest.raises(InputError, match="a variant with variant"):
        running.read_base(base)

    assert "ema" in running.read_base(base, "ema").files.weights["unet"].files[0].name


def test_a_variant_that_no_component_has_is_refused(bases, running, tmp_path):
    with pytest.raises(MismatchError, match="has no weights of the variant 'fp61'"):
        running.read_base(bases["plain"], "fp61")


@pytest.mark.parametrize("command", ["finetune", "patch-dmp", "sample"])
def test_the_commands_take_the_variant_to_read(soupctl, bases, shards, command):
    shutil.copytree(bases["plain"], "base")
    as_variant(Path("base"), "fp16", keep_plain=True)
    asked = ("--variant", "fp61")
    words = ("--data", shards["plain"], "-n", "--steps", 1)
    chosen = ("--images", 1, "--steps", 1) if command == "sample" else words

    done = soupctl(command, "base", *chosen, "-o", "x.png", *asked)

    assert (4, "soupctl: base: has no weights of the variant 'fp61' (remove --variant)") == (
        done.code,
        done.err.strip(),
    )


def test_a_text_encoder_within_a_whole_clip_is_the_encoder_alone(running, bases, tmp_path):
    base = Path(shutil.copytree(bases["text"], tmp_path / "base"))
    alone = CLIPTextModel.from_pretrained(base / "text_encoder")
    seeing = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=8,
        patch_size=4,
    )
    parts = {"text_config": alone.config.to_dict(), "vision_config": seeing.to_dict()}
    whole = CLIPModel(CLIPConfig(**parts, projection_dim=8))
    whole.text_model.load_state_dict(alone.state_dict())
    shutil.rmtree(base / "text_encoder")
    whole.save_pretrained(base / "text_encoder")

    found = running.load_models(running.read_base(base)).text_encoders["text_encoder"]

    expected = alone.state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(each, expected[key]) for key, each in found.state_dict().items())
