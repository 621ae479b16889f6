"""The weights of a base are those of the models that its configs describe, or are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from edited_bases import edit, edited
from family_images import drawn
from safetensors.torch import load_file, save_file

from soupctl.errors import InputError, MismatchError, UsageError

FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
MATRICES = {
    "unet": "conv_in.weight",
    "vae": "decoder.conv_in.weight",
    "text_encoder": "encoder.layers.0.mlp.fc1.weight",
}


def rewritten(base: Path, copy: Path, component: str, change) -> Path:
    """A copy of a base with other tensors in one component."""
    shutil.copytree(base, copy)
    file = copy / FILES[component]
    tensors = load_file(file)
    change(tensors)
    save_file({name: each.contiguous() for name, each in tensors.items()}, file, {"format": "pt"})
    return copy


def checked(running, base: Path) -> None:
    """What finetune checks before it reads data."""
    running.read_base_setup(base, running.Options(**running.SHORT), None)


@pytest.mark.parametrize("component", FILES)
def test_integers_in_place_of_weights_are_refused(bases, running, tmp_path, component):
    name = MATRICES[component]

    def quantise(tensors):
        tensors[name] = (tensors[name] * 10).round().to(torch.int8)

    base = rewritten(bases["text"], tmp_path / "base", component, quantise)

    with pytest.raises(MismatchError, match="quantised weights cannot be trained or sampled") as no:
        checked(running, base)

    assert f"base/{component}: {name}: is a code" in no.value.message()


@pytest.mark.parametrize(
    ("dtype", "ending"), [(torch.int8, "SCB"), (torch.float8_e4m3fn, "weight_scale")]
)
def test_codes_that_have_scales_are_refused(bases, running, tmp_path, dtype, ending):
    name = MATRICES["text_encoder"]

    def quantise(tensors):
        tensors[name] = tensors[name].to(dtype)
        tensors[name.replace("weight", ending)] = torch.ones(len(tensors[name]))

    base = rewritten(bases["text"], tmp_path / "base", "text_encoder", quantise)

    with pytest.raises(MismatchError, match="quantised weights cannot be trained or sampled"):
        checked(running, base)


@pytest.mark.parametrize("component", FILES)
def test_weights_of_another_shape_are_refused_by_name_before_data_is_read(
    bases, running, tmp_path, component
):
    name = MATRICES[component]

    def cut(tensors):
        tensors[name] = tensors[name][:3]

    base = rewritten(bases["text"], tmp_path / "base", component, cut)

    with pytest.raises(MismatchError, match="but its config says") as refusal:
        checked(running, base)

    assert f"{FILES[component]}: {name}: has shape [3, " in refusal.value.message()


@pytest.mark.parametrize("component", FILES)
def test_missing_weights_are_refused_by_name_before_data_is_read(
    bases, running, tmp_path, component
):
    name = MATRICES[component]
    base = rewritten(bases["text"], tmp_path / "base", component, lambda tensors: tensors.pop(name))

    with pytest.raises(MismatchError, match="is missing, though its config") as refusal:
        checked(running, base)

    assert f"base/{component}: {name}: " in refusal.value.message()


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_a_text_encoder_may_have_the_names_of_any_version(bases, running, tmp_path, is_wrapped):
    def rename(tensors):
        for name in list(tensors):
            plain = name.removeprefix("text_model.")
            tensors["text_model." * is_wrapped + plain] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(8)[None]

    base = rewritten(bases["text"], tmp_path / "base", "text_encoder", rename)

    checked(running, base)

    own, theirs = (
        running.load_models(running.read_base(each)).text_encoders["text_encoder"].state_dict()
        for each in (base, bases["text"])
    )
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)


def test_a_text_encoder_without_its_tokenizer_is_refused(families, running, tmp_path):
    base = shutil.copytree(families["sd3"], tmp_path / "base")
    shutil.rmtree(base / "tokenizer_3")

    with pytest.raises(MismatchError, match="takes captions, but the base has no tokenizer_3"):
        running.read_base(base)


def test_a_text_encoder_that_is_not_there_is_left_out_only_if_the_list_says_so(
    families, running, tmp_path
):
    base = shutil.copytree(families["sd3"], tmp_path / "base")
    shutil.rmtree(base / "text_encoder_3")

    with pytest.raises(InputError, match="text_encoder_3: is missing, though model_index"):
        running.read_base(base)

    edit(base / "model_index.json", text_encoder_3=[None, None])
    assert "text_encoder_3" not in running.read_base(base).configs


@pytest.mark.parametrize("listed", [[None, None], None])
def test_a_pipeline_without_a_scheduler_is_refused(bases, running, tmp_path, listed):
    base = edited(bases["text"], tmp_path / "base", "model_index.json", scheduler=listed)

    with pytest.raises(InputError, match="names no scheduler, so the noise"):
        running.read_base(base)


@pytest.mark.parametrize("is_there", [True, False])
def test_latents_are_not_taken_for_pixels_if_the_list_leaves_their_autoencoder_out(
    tiny, running, tmp_path, is_there
):
    base = tiny.latent_base(tmp_path / "base")
    edit(base / "model_index.json", vqvae=[None, None])
    if not is_there:
        shutil.rmtree(base / "vqvae")

    expected = "vqvae: is there, but model_index.json does not" if is_there else "no autoencoder"
    with pytest.raises((InputError, MismatchError), match=expected):
        running.read_base(base)


def test_a_tokenizer_of_t5_has_a_hundred_tokens_of_its_own(families, running, tmp_path):
    base = shutil.copytree(families["flux"], tmp_path / "base")
    file = base / "text_encoder_2" / "model.safetensors"
    tensors = load_file(file)
    rows = tensors["shared.weight"]
    tensors["shared.weight"] = torch.cat([rows, rows.new_zeros(100, rows.shape[1])])
    save_file(tensors, file, {"format": "pt"})
    edit(base / "text_encoder_2" / "config.json", vocab_size=len(tensors["shared.weight"]))
    edit(
        base / "tokenizer_2" / "tokenizer_config.json",
        add_prefix_space=None,
        additional_special_tokens=[f"<extra_id_{number}>" for number in range(100)],
        extra_ids=100,
        legacy=True,
        sp_model_kwargs={},
    )

    checked(running, base)


@pytest.mark.parametrize("kind", ["CLIPImageProcessorFast", "CLIPImageProcessorPil"])
def test_an_image_processor_may_be_of_any_implementation(bases, running, tmp_path, kind):
    base = edited(
        *(bases["text"], tmp_path / "base", "model_index.json"),
        feature_extractor=["transformers", kind],
    )

    running.read_base(base)


def test_an_autoencoder_that_makes_no_numbers_is_refused_by_sample(bases, tmp_path):
    def break_it(tensors):
        tensors["decoder.conv_in.weight"] *= float("nan")

    base = rewritten(bases["dit"], tmp_path / "base", "vae", break_it)

    with pytest.raises(InputError, match="base/vae: makes NaN or infinity of finite latents"):
        drawn(base)


def test_sample_advises_no_option_that_it_lacks_for_noise_without_signal(bases, tmp_path):
    base = edited(
        *(bases["plain"], tmp_path / "base", "scheduler/scheduler_config.json"),
        rescale_betas_zero_snr=True,
    )

    with pytest.raises(UsageError, match="set prediction_type to v_prediction in its scheduler"):
        drawn(base)
