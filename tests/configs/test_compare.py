"""Configs are compared by what they mean for the weights."""

from __future__ import annotations

import json
from typing import Any

import pytest

from soupctl.configs.compare import Difference, differences


def compared(name: str, first: Any, other: Any) -> tuple[Difference, ...]:
    """The differences of two JSON values, which are the same in the other order."""
    one, two = json.dumps(first).encode(), json.dumps(other).encode()
    found = differences(name, one, two)
    back = differences(name, two, one)
    assert {each.field for each in found} == {each.field for each in back}
    assert [each.is_deciding for each in found] == [each.is_deciding for each in back]
    return found


def deciding(name: str, first: Any, other: Any) -> list[str]:
    found = compared(name, first, other)
    assert all(each.is_deciding for each in found), found
    return [each.field for each in found]


def open_ones(name: str, first: Any, other: Any) -> list[str]:
    found = compared(name, first, other)
    assert not any(each.is_deciding for each in found), found
    return [each.field for each in found]


LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "vocab_size": 32,
    "num_attention_heads": 8,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "use_cache": True,
}
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "in_channels": 4,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "sample_size": 64,
}
VAE = {"_class_name": "AutoencoderKL", "latent_channels": 4}
DDIM = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
}
COGVIDEO = DDIM | {"_class_name": "CogVideoXDDIMScheduler"}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}

EQUAL_MODELS = {
    "caching": (LLAMA, LLAMA | {"use_cache": False}),
    "ids of padding and ends": (LLAMA, LLAMA | {"pad_token_id": 0, "eos_token_id": [2]}),
    "one end and a list of it": (LLAMA | {"eos_token_id": 2}, LLAMA | {"eos_token_id": [2]}),
    "versions": (LLAMA | {"transformers_version": "4.1"}, LLAMA | {"unsloth_version": "2025.9"}),
    "dtypes": (LLAMA | {"torch_dtype": "float16"}, LLAMA | {"dtype": "bfloat16"}),
    "paths": (LLAMA | {"_name_or_path": "a/b"}, LLAMA | {"_name_or_path": "../c"}),
    "dropout": (LLAMA | {"attention_dropout": 0.1}, LLAMA | {"attention_dropout": 0.0}),
    "null": (LLAMA, LLAMA | {"rope_scaling": None, "head_dim": None, "new_thing": None}),
    "false": (LLAMA, LLAMA | {"attention_bias": False, "mlp_bias": False, "new_thing": False}),
    "an integer and a float": (LLAMA, LLAMA | {"rope_theta": 10000}),
    "the default of the class": (
        {"model_type": "llama", "vocab_size": 32000},
        {"model_type": "llama"},
    ),
    "the rope of transformers 4 and 5": (
        LLAMA,
        {key: value for key, value in LLAMA.items() if key != "rope_theta"}
        | {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
    ),
    "rope that is scaled, of both": (
        LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}},
        LLAMA | {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2}},
    ),
    "rope of long contexts by its older name": (
        LLAMA | {"rope_scaling": {"type": "su", "long_factor": [2.0]}},
        LLAMA | {"rope_scaling": {"type": "longrope", "long_factor": [2.0]}},
    ),
    "heads that follow from others": (LLAMA, LLAMA | {"head_dim": 8, "num_key_value_heads": 8}),
    "labels that are only numbered": (
        LLAMA,
        LLAMA
        | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
    ),
    "defaults of diffusers": (UNET, UNET | {"dropout": 0.0, "attention_type": "default"}),
    "a usual size of a picture": (UNET, UNET | {"sample_size": 96}),
    "attention in float32": (UNET, UNET | {"upcast_attention": True}),
    "averaging in training": (UNET, UNET | {"decay": 0.9999, "optimization_step": 7000}),
    "the scale of latents": (VAE, VAE | {"scaling_factor": 0.18215, "latents_mean": None}),
    "a class that was split": (
        {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_single"},
        {"_class_name": "PixArtTransformer2DModel", "norm_type": "ada_norm_single"},
    ),
}


@pytest.mark.parametrize("case", EQUAL_MODELS)
def test_models_that_mean_the_same_agree(case):
    assert () == compared("unet/config.json", *EQUAL_MODELS[case])


DIFFERENT_MODELS = {
    "heads": (UNET, UNET | {"attention_head_dim": [5, 10, 20, 20]}, "attention_head_dim"),
    "activation": (UNET, UNET | {"act_fn": "gelu"}, "act_fn"),
    "another than the default": (UNET, UNET | {"norm_eps": 1e-6}, "norm_eps"),
    "null where the class lets it": (UNET, UNET | {"norm_num_groups": None}, "norm_num_groups"),
    "true where false is usual": (UNET, UNET | {"class_embeddings_concat": True}, None),
    "the scale of latents": (VAE, VAE | {"scaling_factor": 0.13025}, "scaling_factor"),
    "the shift of latents": (VAE, VAE | {"shift_factor": 0.1159}, "shift_factor"),
    "the class": (VAE, VAE | {"_class_name": "AutoencoderTiny"}, "_class_name"),
    "the base of rotary frequencies": (
        LLAMA,
        LLAMA | {"rope_theta": 500000.0},
        "rope_parameters.rope_theta",
    ),
    "the scale of rotary frequencies": (
        LLAMA,
        LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "rope_parameters.factor",
    ),
    "tying": (LLAMA, LLAMA | {"tie_word_embeddings": True}, "tie_word_embeddings"),
    "vocabulary": (LLAMA, LLAMA | {"vocab_size": 33}, "vocab_size"),
    "the epsilon of norms": (LLAMA, LLAMA | {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
    "the window of attention": (
        {"model_type": "mistral"},
        {"model_type": "mistral", "sliding_window": None},
        "sliding_window",
    ),
}


@pytest.mark.parametrize("case", DIFFERENT_MODELS)
def test_models_that_mean_something_else_never_agree(case):
    first, other, field = DIFFERENT_MODELS[case]

    found = compared("config.json", first, other)
    assert found
    assert field is None or field in [each.field for each in found if each.is_deciding]


@pytest.mark.parametrize("field", ["random_loc_seed", "random_seed", "projection_prng_key"])
def test_adapters_whose_parameters_belong_to_other_places_never_agree(field):
    assert [field] == deciding("adapter_config.json", {field: 1}, {field: 2})


def test_what_is_neither_harmless_nor_deciding_is_for_the_user_to_settle():
    assert ["new_thing"] == open_ones("config.json", UNET, UNET | {"new_thing": 3})
    assert ["max_position_embeddings"] == open_ones(
        "config.json", LLAMA, LLAMA | {"max_position_embeddings": 8192}
    )


def test_both_values_are_shown_with_the_default_of_an_absent_one():
    (found,) = compared("vae/config.json", VAE, VAE | {"scaling_factor": 0.13025})
    assert Difference("scaling_factor", "0.18215", "0.13025", True) == found

    (found,) = compared("config.json", VAE, VAE | {"new": "x" * 100})
    assert ("absent", 60) == (found.first, len(found.other))


def test_configs_within_configs_have_the_defaults_of_their_own_class():
    clip = {"model_type": "clip", "text_config": {"hidden_size": 768}}
    spelled = {
        "hidden_size": 768,
        "hidden_act": "quick_gelu",
        "vocab_size": 49408,
        "model_type": "clip_text_model",
    }

    assert () == compared(
        "config.json", clip, {**clip, "text_config": spelled, "text_config_dict": {"a": 1}}
    )
    other = {**clip, "text_config": {**spelled, "hidden_act": "gelu"}}
    assert ["text_config.hidden_act"] == deciding("config.json", clip, other)


def test_a_class_that_only_a_pipeline_names_gives_the_defaults():
    first, other = b"{}", json.dumps({"scaling_factor": 0.18215}).encode()

    assert () == differences("config.json", first, other, ("AutoencoderKL", "AutoencoderKL"))
    assert ["scaling_factor"] == [each.field for each in differences("config.json", first, other)]


EQUAL_SCHEDULES = {
    "another sampler": (DDIM, DDIM | {"_class_name": "EulerDiscreteScheduler", "steps_offset": 1}),
    "a shift that shifts nothing": (COGVIDEO | {"snr_shift_scale": 1.0}, DDIM),
    "settings of a sampler": (
        DDIM,
        DDIM | {"timestep_spacing": "trailing", "use_karras_sigmas": True},
    ),
    "what is predicted by default": (DDIM, DDIM | {"prediction_type": "epsilon"}),
    "the default of the class": (
        {"_class_name": "DDPMScheduler"},
        {"_class_name": "PNDMScheduler", "beta_start": 0.0001, "beta_end": 0.02},
    ),
    "a flow by two samplers": (
        FLOW,
        {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True, "flow_shift": 3.0},
    ),
    "bounds of a shift that is not dynamic": (FLOW, FLOW | {"base_shift": 0.5, "max_shift": 1.15}),
}


@pytest.mark.parametrize("case", EQUAL_SCHEDULES)
def test_samplers_of_one_noise_schedule_agree(case):
    assert () == compared("scheduler/scheduler_config.json", *EQUAL_SCHEDULES[case])


DIFFERENT_SCHEDULES = {
    "what is predicted": (DDIM, DDIM | {"prediction_type": "v_prediction"}, "prediction_type"),
    "betas": (DDIM, DDIM | {"beta_end": 0.02}, "beta_end"),
    "the course of betas": (DDIM, DDIM | {"beta_schedule": "linear"}, "beta_schedule"),
    "no signal at the end": (
        DDIM,
        DDIM | {"rescale_betas_zero_snr": True},
        "rescale_betas_zero_snr",
    ),
    "the shift": (FLOW, FLOW | {"shift": 1.0}, "shift"),
    "a dynamic shift": (FLOW, FLOW | {"use_dynamic_shifting": True}, "use_dynamic_shifting"),
    "a shift of the noise": (COGVIDEO, COGVIDEO | {"snr_shift_scale": 1.0}, "snr_shift_scale"),
    "a shift of the noise by default": (COGVIDEO, DDIM, "snr_shift_scale"),
    "the logarithm of the noise in place of the timestep": (
        DDIM,
        DDIM | {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
        "timestep_type",
    ),
    "noise and flow": (DDIM, FLOW, "kind"),
    "noise and EDM": (DDIM, {"_class_name": "EDMEulerScheduler"}, "kind"),
}


@pytest.mark.parametrize("case", DIFFERENT_SCHEDULES)
def test_noise_schedules_that_differ_never_agree(case):
    first, other, field = DIFFERENT_SCHEDULES[case]

    assert field in [each.field for each in compared("scheduler_config.json", first, other)]


INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
EQUAL_PIPELINES = {
    "a null component": INDEX | {"image_encoder": [None, None]},
    "the safety checker": INDEX
    | {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]},
    "whether it is required": INDEX | {"requires_safety_checker": False},
    "another sampler": INDEX | {"scheduler": ["diffusers", "DDIMScheduler"]},
    "a fast tokenizer": INDEX | {"tokenizer": ["transformers", "CLIPTokenizerFast"]},
    "a default": INDEX | {"_diffusers_version": "0.42.1", "_name_or_path": "x"},
}


@pytest.mark.parametrize("case", EQUAL_PIPELINES)
def test_pipelines_of_the_same_models_agree(case):
    assert () == compared("model_index.json", INDEX, EQUAL_PIPELINES[case])


def test_pipelines_of_other_models_do_not_agree():
    other = INDEX | {"unet": ["diffusers", "UNet2DModel"]}
    assert ["unet"] == [each.field for each in compared("model_index.json", INDEX, other)]


TOKENIZER = {"version": "1.0", "truncation": None, "padding": None, "model": {"vocab": {"a": 0}}}


@pytest.mark.parametrize(
    ("name", "first", "other"),
    [
        ("tokenizer.json", TOKENIZER, TOKENIZER | {"truncation": {"max_length": 512}}),
        ("tokenizer.json", TOKENIZER, TOKENIZER | {"padding": {"strategy": "BatchLongest"}}),
        ("tokenizer_config.json", {"model_max_length": 4096}, {"model_max_length": 2048}),
        (
            "tokenizer_config.json",
            {"unk_token": "<u>"},
            {"unk_token": {"content": "<u>", "lstrip": False}},
        ),
        ("special_tokens_map.json", {"pad_token": "a"}, {"pad_token": "b"}),
        ("generation_config.json", {"temperature": 0.6}, {"temperature": 0.7}),
        ("chat_template.jinja", "A", "B"),
        (
            "preprocessor_config.json",
            {"feature_extractor_type": "A"},
            {"image_processor_type": "B"},
        ),
        ("adapter_config.json", {"target_modules": ["q", "v"]}, {"target_modules": ["v", "q"]}),
        (
            "modules.json",
            [{"path": "", "type": "sentence_transformers.models.Transformer"}],
            [{"path": "", "type": "sentence_transformers.base.modules.Transformer"}],
        ),
    ],
)
def test_files_that_configure_the_same_agree(name, first, other):
    assert () == compared(name, first, other)


def test_vocabularies_that_differ_never_agree():
    other = TOKENIZER | {"model": {"vocab": {"b": 0}}}
    assert ["model.vocab.a", "model.vocab.b"] == deciding("tokenizer.json", TOKENIZER, other)
    (found,) = differences("merges.txt", b"#version: 0.2\na b\n", b"a c\n")
    assert found.is_deciding


def test_merges_agree_whatever_their_version_and_last_line():
    assert () == differences("merges.txt", b"#version: 0.2\na b\n", b"a b")


@pytest.mark.parametrize(
    "other", [b"", b"{", b"\xff", b"[" * 100_000, b'{"in_channels":' + b"4" * 5000 + b"}", b"[]"]
)
def test_a_file_that_is_not_a_config_differs_from_one(other):
    first = json.dumps(UNET).encode()

    assert differences("config.json", first, other)
    assert differences("config.json", other, first)


def test_a_config_that_only_one_can_read_is_named():
    (found,) = differences("config.json", b'{"a": 1}', b'{"a": 1, // one\n}')

    assert ("contents", "valid JSON", "not valid JSON") == (found.field, found.first, found.other)


@pytest.mark.parametrize("name", ["spiece.model", "vocab.txt", "tekken.bin"])
def test_any_other_file_agrees_only_byte_for_byte(name):
    assert () == differences(name, b"one", b"one")
    (found,) = differences(name, b"one", b"two")
    assert "contents" == found.field


@pytest.mark.parametrize(("first", "other"), [("1", "true"), ("0", "false"), ('"1"', "1")])
def test_numbers_are_no_other_values(first, other):
    for form in ('{{"a": {}}}', '{{"a": [{{"b": {}}}]}}', "[{}]"):
        assert differences("config.json", form.format(first).encode(), form.format(other).encode())


def test_no_number_is_the_same_as_no_number():
    assert () == differences("config.json", b'{"a": NaN}', b'{"a":NaN}')
