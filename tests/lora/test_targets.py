"""A module of an adapter is found in a base whatever the naming of either, held to diffusers."""

import numpy as np
import pytest
from tiny_originals import MODELS, converted, drawn, headers

from soupctl.lora.targets import TargetIndex


def rows_at(model, target, prefix=""):
    parts = [
        model[rows.tensor.removeprefix(prefix)][rows.first : rows.first + rows.count]
        for rows in target
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("form", ["{}", "lora_unet_{}", "dotted"])
def test_names_of_diffusers_are_found_in_a_file_of_the_first_authors(kind, form):
    original = drawn(MODELS[kind]())
    other = converted(kind, original)
    prefix = "model.diffusion_model."
    index = TargetIndex(headers(original, prefix))

    for name, array in other.items():
        if array.ndim > 1 and name.endswith(".weight"):
            module = name.removesuffix(".weight")
            asked = (
                f"transformer.{module}"
                if form == "dotted"
                else form.format(module if form == "{}" else module.replace(".", "_"))
            )
            target = index.find(asked)
            assert target is not None, asked
            assert np.array_equal(
                array.reshape(len(array), -1),
                rows_at(original, target, prefix).reshape(len(array), -1),
            ), asked


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("form", ["diffusion_model.{}", "lora_unet_{}", "{}"])
def test_names_of_the_first_authors_are_found_in_a_folder_of_diffusers(kind, form):
    original = drawn(MODELS[kind]())
    other = converted(kind, original)
    index = TargetIndex(headers(other), "unet" if kind == "unet" else "transformer")

    for name, array in original.items():
        if array.ndim > 1:
            module = name.removesuffix(".weight")
            asked = form.format(module.replace(".", "_") if form == "lora_unet_{}" else module)
            target = index.find(asked)
            assert target is not None, asked
            assert np.array_equal(
                array.reshape(len(array), -1), rows_at(other, target).reshape(len(array), -1)
            ), asked


@pytest.mark.parametrize("times", [1, 2, 2000])
def test_the_prefix_of_peft_may_be_repeated(times):
    index = TargetIndex(headers({"a.q.weight": np.zeros((3, 2))}))

    assert index.find("a.q") == index.find(f"{'base_model.model.' * times}unet.a.q")


def clip_shapes(prefix):
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
    layer = dict.fromkeys(names, (4, 4)) | {"mlp.fc1": (16, 4), "mlp.fc2": (4, 16)}
    return {f"{prefix}encoder.layers.{n}.{name}": s for n in range(2) for name, s in layer.items()}


def open_clip(model):
    """The text encoder as OpenCLIP stores it: queries, keys and values in one matrix."""
    found = {}
    for number in range(2):
        old, new = f"text_model.encoder.layers.{number}", f"transformer.resblocks.{number}"
        projections = [model[f"{old}.self_attn.{letter}_proj.weight"] for letter in "qkv"]
        found[f"{new}.attn.in_proj_weight"] = np.concatenate(projections)
        for name, other in (
            ("self_attn.out_proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            found[f"{new}.{other}.weight"] = model[f"{old}.{name}.weight"]
    return found


@pytest.mark.parametrize("form", ["lora_te2_{}", "text_encoder_2.{}"])
def test_names_of_transformers_are_found_in_the_fused_text_encoder_of_sdxl(form):
    model = drawn(clip_shapes("text_model."))
    prefix = "conditioner.embedders.1.model."
    fused = open_clip(model)
    first = headers(drawn(clip_shapes("text_model.")), "conditioner.embedders.0.transformer.")
    index = TargetIndex(headers(fused, prefix) | first)

    for name, array in model.items():
        if array.ndim > 1:
            module = name.removesuffix(".weight")
            target = index.find(
                form.format(module.replace(".", "_") if form.startswith("lora") else module)
            )
            assert target is not None, name
            assert np.array_equal(array, rows_at(fused, target, prefix)), name


@pytest.mark.parametrize(
    ("module", "tensor"),
    [
        ("lora_te1_text_model_encoder_layers_1_mlp_fc1", "conditioner.embedders.0.transformer."),
        (
            "text_encoder.text_model.encoder.layers.1.mlp.fc1",
            "conditioner.embedders.0.transformer.",
        ),
        ("lora_te2_text_model_encoder_layers_1_mlp_fc1", None),
    ],
)
def test_a_text_encoder_is_meant_by_its_number(module, tensor):
    index = TargetIndex(
        headers(drawn(clip_shapes("text_model.")), "conditioner.embedders.0.transformer.")
    )

    target = index.find(module)

    assert (tensor is None) == (target is None)
    assert tensor is None or target[0].tensor.startswith(tensor)


def test_a_component_is_not_mistaken_for_another_with_the_same_names():
    model = headers(drawn(clip_shapes("text_model.")))

    assert TargetIndex(model, "text_encoder").find(
        "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    )
    assert not TargetIndex(model, "text_encoder").find(
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"
    )


@pytest.mark.parametrize(
    "module",
    [
        "down.attn1.to_out",
        "unet.down.attn1.processor.to_out",
        "base_model.model.down.attn1.to_out.0",
        "lora_unet_down_attn1_to_out_0",
        "module.down.attn1.to_out.0",
    ],
)
def test_any_base_is_found_once_names_are_alike(module):
    index = TargetIndex(headers(drawn({"down.attn1.to_out.0": (4, 4)})))

    assert "down.attn1.to_out.0.weight" == index.find(module)[0].tensor


def test_a_name_of_underscores_that_stands_for_two_modules_is_not_found():
    index = TargetIndex(headers(drawn({"a.b_c": (4, 4), "a_b.c": (4, 4)})))

    assert index.find("lora_unet_a_b_c") is None
    assert "a.b_c.weight" == index.find("a.b_c")[0].tensor
