"""Models in both layouts hold the same numbers, by the converters of diffusers and ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from making import contents, metadata, save
from safetensors.numpy import load_file

pytest.importorskip("diffusers")

import diffusers
import torch
import transformers
from diffusers.loaders import single_file_utils as theirs
from tiny_families import PIPELINES, clip, save_family
from tiny_originals import converted, drawn, flux_shapes

from soupctl import verbs
from soupctl.choices import Layout
from soupctl.errors import MismatchError, UsageError
from soupctl.format.dtypes import DType
from soupctl.verbs import ConvertRequest

FAMILIES = list(PIPELINES)
CLASSES = {
    "unet": diffusers.UNet2DConditionModel,
    "transformer": diffusers.FluxTransformer2DModel,
    "vae": diffusers.AutoencoderKL,
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Pipelines as diffusers saves them, and single files made of them, by family."""
    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        save_family(name, folder / name)
        convert(folder / name, folder / f"{name}.st", layout=Layout.LDM)
    return folder


def convert(source, output, **options):
    return verbs.convert(ConvertRequest(source, output, **options))


def weights(folder: Path) -> dict[str, dict[str, object]]:
    """The tensors of each component of a pipeline, by the names without `text_model.`."""
    return {
        path.parent.name: {
            name.removeprefix("text_model."): raw for name, raw in contents(path).items()
        }
        for path in sorted(folder.glob("*/*.safetensors"))
    }


def tensors(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    found = {name: torch.from_numpy(array) for name, array in load_file(path).items()}
    return {name: tensor for name, tensor in found.items() if name.startswith(prefix)}


def require_same(found: dict[str, torch.Tensor], path: Path) -> None:
    """Assert that tensors are those of a file, to the last bit."""
    own = {name.removeprefix("text_model."): each for name, each in tensors(path).items()}
    found = {name.removeprefix("text_model."): each for name, each in found.items()}
    assert own.keys() == found.keys()
    assert [] == [name for name in own if not torch.equal(own[name], found[name])]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_becomes_one_file_and_the_same_pipeline_again(saved, family):
    convert(saved / f"{family}.st", "back", layout=Layout.DIFFUSERS)
    convert("back", "again.st", layout=Layout.LDM)

    assert weights(saved / family) == weights(Path("back"))
    assert contents(saved / f"{family}.st") == contents(Path("again.st"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_with_built_in_configs_loads_and_holds_the_same_values(saved, family):
    convert(saved / f"{family}.st", "back", layout=Layout.DIFFUSERS)

    for name in weights(Path("back")):
        kind = CLASSES.get(name)
        if kind is None:
            kind = getattr(
                transformers, json.loads(Path("back/model_index.json").read_text())[name][1]
            )
        one, two = (
            kind.from_pretrained(folder / name) for folder in (saved / family, Path("back"))
        )
        state = two.state_dict()
        assert one.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_with_the_configs_of_another_has_them_and_no_others(saved, family):
    convert(saved / f"{family}.st", "back", layout=Layout.DIFFUSERS, config_from=saved / family)

    def others(folder):
        found = (path for path in folder.rglob("*") if path.suffix == ".json")
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    assert others(saved / family) == others(Path("back"))


@pytest.mark.parametrize("family", ["sd1", "inpainting", "sd2", "sdxl", "xl_inpainting", "refiner"])
def test_a_single_file_is_what_the_converters_of_diffusers_read(saved, family):
    file, folder = saved / f"{family}.st", saved / family
    config = json.loads((folder / "unet/config.json").read_text())
    vae = json.loads((folder / "vae/config.json").read_text())

    unet = theirs.convert_ldm_unet_checkpoint(tensors(file), config)
    require_same(unet, folder / "unet/diffusion_pytorch_model.safetensors")
    first = theirs.convert_ldm_vae_checkpoint(tensors(file, "first_stage_model."), vae)
    require_same(first, folder / "vae/diffusion_pytorch_model.safetensors")
    if family == "sd2":
        model = clip(64, "gelu")
        text = theirs.convert_open_clip_checkpoint(model, tensors(file, "cond_stage_model."))
        require_same(text, folder / "text_encoder/model.safetensors")
    elif family == "sdxl":
        model = clip(64, "gelu")
        prefix = "conditioner.embedders.1.model."
        text = theirs.convert_open_clip_checkpoint(model, tensors(file, prefix), prefix)
        require_same(text, folder / "text_encoder_2/model.safetensors")


def test_a_flux_is_what_diffusers_makes_of_it():
    # diffusers takes each Flux to be 3072 wide
    original = drawn(flux_shapes())
    for number in range(2):
        for name in ("query_norm", "key_norm"):
            ones = np.ones(4, np.float32)
            original[f"single_blocks.{number}.norm.{name}.scale"] = ones
            for stream in ("img", "txt"):
                original[f"double_blocks.{number}.{stream}_attn.norm.{name}.scale"] = ones
    save(Path("bfl.st"), **original)

    convert("bfl.st", "out.st", layout=Layout.DIFFUSERS)
    convert("out.st", "back.st", layout=Layout.LDM)

    made, expected = load_file("out.st"), converted("flux", original)
    assert made.keys() == expected.keys()
    assert all((made[name] == expected[name]).all() for name in made)
    assert contents(Path("bfl.st")) == contents(Path("back.st"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_with_built_in_configs_is_of_the_class_of_its_models(saved, family):
    convert(saved / f"{family}.st", "back", layout=Layout.DIFFUSERS)

    own, made = (
        json.loads((folder / "model_index.json").read_text())
        for folder in (saved / family, Path("back"))
    )
    assert own["_class_name"] == made["_class_name"]
    assert set(weights(saved / family)) <= made.keys()
    asks = "requires_aesthetics_score"
    assert bool(own.get(asks)) == bool(made.get(asks))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(("sd1", "unet"), ("inpainting", "unet"), ("xl_inpainting", "unet"), ("refiner", "unet")),
        *(("sdxl", "unet"), ("sdxl", "vae")),
    ],
)
def test_diffusers_loads_a_component_from_a_single_file(saved, family, name):
    # its ending tells diffusers the format
    Path("one.safetensors").symlink_to(saved / f"{family}.st")

    model = CLASSES[name].from_single_file(
        "one.safetensors", config=str(saved / family), subfolder=name
    )

    path = saved / family / name / "diffusion_pytorch_model.safetensors"
    require_same(model.state_dict(), path)


@pytest.mark.parametrize(
    ("family", "name"), [("sd1", "unet"), ("sd1", "vae"), ("sd2", "text_encoder")]
)
def test_a_component_alone_has_no_prefix_in_either_layout(saved, family, name):
    convert(saved / family, "one.st", component=name, layout=Layout.LDM)
    convert("one.st", "back.st", layout=Layout.DIFFUSERS)

    whole = {each.rpartition(".")[0] for each in contents(Path("one.st"))}
    assert not any(each.startswith(("model.", "first_stage", "cond_stage")) for each in whole)
    own = weights(saved / family)[name]
    back = {n.removeprefix("text_model."): raw for n, raw in contents(Path("back.st")).items()}
    assert own == back


def test_what_has_no_place_in_the_other_layout_is_listed_or_left_out_with_a_reason(saved):
    extra = {"alphas_cumprod": np.ones(3, np.float32), "model_ema.decay": np.ones(1, np.float32)}
    save(Path("a.st"), **load_file(saved / "sd1.st"), **extra, strange=np.ones(1, np.float32))

    with pytest.raises(MismatchError) as caught:
        convert("a.st", "x", layout=Layout.DIFFUSERS)
    assert ["model_ema.decay", "strange"] == sorted(each.tensor for each in caught.value.issues)
    assert not Path("x").exists()
    request = ConvertRequest(
        "a.st", "x", layout=Layout.DIFFUSERS, excludes=("model_ema.*", "strange")
    )
    with verbs.open_conversion(request) as job:
        notes = verbs.preview_conversion(job).notes
        verbs.convert_tensors(job)
    assert any(re.search("noise schedule: alphas_cumprod$", note) for note in notes)
    assert weights(saved / "sd1") == weights(Path("x"))


def test_dtype_and_layout_change_in_one_pass(saved):
    convert(saved / "sdxl", "half.st", layout=Layout.LDM, dtype=DType.BF16)
    convert(saved / "sdxl", "halves", dtype=DType.BF16)
    convert("halves", "same.st", layout=Layout.LDM)

    assert contents(Path("half.st")) == contents(Path("same.st"))
    assert {"asked", "format", "sources"} == json.loads(
        metadata(Path("half.st"))["soupctl.converted"]
    ).keys()


@pytest.mark.parametrize(
    ("source", "output", "options", "what"),
    [
        ("sd1", "x", {"layout": Layout.DIFFUSERS}, "is a pipeline, whose layout is that of"),
        ("sd1.st", "x.st", {"layout": Layout.DIFFUSERS}, "one file cannot hold 3 components"),
        ("sd1.st", "x.st", {"config_from": "sd1"}, "config_from gives configs to the pipeline"),
    ],
)
def test_requests_that_make_no_sense_are_refused(saved, source, output, options, what):
    with pytest.raises(UsageError, match=what):
        convert(saved / source, output, **options)


def test_a_model_of_another_kind_is_refused():
    save(Path("a.st"), **{"h.0.attn.weight": np.ones((2, 2), np.float32)})

    for layout in Layout:
        with pytest.raises(MismatchError, match="is not a model whose original layout is known"):
            convert("a.st", "x.st", layout=layout)


def test_a_fused_matrix_that_cannot_be_divided_is_refused(saved):
    arrays = load_file(saved / "sd2.st")
    name = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias"
    save(Path("a.st"), **arrays | {name: np.ones(64, np.float32)})

    with pytest.raises(MismatchError, match=r"has shape \[64\], which cannot be rows of several"):
        convert("a.st", "x", layout=Layout.DIFFUSERS)
