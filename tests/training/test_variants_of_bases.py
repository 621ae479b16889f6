"""Weights of a variant, such as fp16, are read if one is named, or if there are no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from edited_bases import loaded

from soupctl.errors import InputError, MismatchError


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
