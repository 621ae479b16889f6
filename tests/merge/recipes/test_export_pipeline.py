"""The recipe of a whole pipeline makes all its components again, or is refused with a way out."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save, save_pipeline

from soupctl import verbs
from soupctl.errors import LedgerError
from soupctl.verbs import (
    BlockWeights,
    DType,
    Ingredient,
    RecipeRun,
    Request,
    Revision,
)

HALF, ONE, NONE = Fraction(1, 2), Fraction(1), Fraction(0)
VAE = "vae/diffusion_pytorch_model.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Pipelines p, q and r, of which p and q share their VAE."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("pqr"):
        save_pipeline(Path("models", name), number)
        # of configs that differ in nothing else, the first input's are copied
        Path(path(name), "unet/config.json").write_text('{"in_channels": 4}')
    Path("models/q", VAE).write_bytes(Path("models/p", VAE).read_bytes())


def path(name: str) -> str:
    return f"models/{name}"


def made_again(soup: str = "soup") -> Path:
    """What the recipe of a soup makes."""
    Path("recipe.toml").write_text("\n".join(verbs.recipe_of_soup(soup)) + "\n")
    verbs.run_recipe(RecipeRun("recipe.toml", "again"), force=True)
    return Path("again")


PAIR = [Ingredient(path("p"), Fraction("0.7")), Ingredient(path("q"), Fraction(1, 3))]
BLOCKS = BlockWeights((("conv_*", (HALF, HALF)), ("norm", (ONE, ONE))), (ONE, NONE))
OPTIONS = [
    {},
    {"dtype": DType.F32, "excludes": ("norm",)},
    {"config_from": path("q")},
    {"take": (("quant_conv.*", path("q")), ("norm", path("p")))},
    {"take": (("quant_conv.*", path("r")),)},
    {"take": (("n*", path("q")), ("emb*", path("r")), ("norm", path("r")))},
    {"take": (("*.weight", path("r")), ("conv_in.weight", path("p")))},
    {"ingredients": [path("p"), path("q")], "blocks": BLOCKS},
    {"normalize": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_recipe_of_pipelines_makes_the_same_folder(options):
    verbs.average(Request(**{"ingredients": PAIR, "output": "soup"} | options))

    assert files(Path("soup")) == files(made_again())


def test_the_recipe_of_pipelines_takes_the_integers_of_the_same_one_again():
    for number, name in enumerate("pqr"):
        save(Path(path(name), UNET), x=np.ones(3, np.float16), ids=np.array([number]))
    for order in ("pqr", "rqp", "qrp"):
        verbs.average(
            Request([path(name) for name in order], "soup", on_int=verbs.OnInt.FIRST), force=True
        )

        assert files(Path("soup")) == files(made_again())


@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"keep_sum": True}], ids=str)
def test_the_recipe_of_a_changed_pipeline_makes_the_same_folder(options):
    verbs.average(Request(PAIR, "first", **options))
    verbs.revise(Revision("add", "first", "second", added=[verbs.Addition(path("r"), HALF)]))
    verbs.revise(Revision("subtract", "second", "soup", removed=[path("q")]))

    assert files(Path("soup")) == files(made_again())


def test_the_recipe_of_a_component_that_pipelines_share_makes_its_tensors():
    Path(path("q"), VAE).write_bytes(Path(path("p"), VAE).read_bytes())
    verbs.average(Request([*PAIR, path("r")], "first"))
    verbs.revise(Revision("subtract", "first", "soup", removed=[path("r")]))
    lines = list(verbs.recipe_of_soup("soup", component="vae"))
    Path("recipe.toml").write_text("\n".join(lines) + "\n")
    verbs.run_recipe(RecipeRun("recipe.toml", "vae.st"))

    assert contents(Path("soup", VAE)) == contents(Path("vae.st"))
    assert lines[-1].startswith("# its history is left out")


def test_a_recipe_holds_pipelines_to_the_content_of_each_component():
    verbs.average(Request(PAIR, "soup"))
    Path(path("q"), VAE).write_bytes(Path(path("r"), VAE).read_bytes())

    with pytest.raises(LedgerError, match=r"models/q: has content .* but is pinned"):
        made_again()
    assert not Path("again").exists()


def mixed(**soups: str) -> str:
    """A folder with each component of another soup."""
    for component, soup in soups.items():
        shutil.copytree(Path(soup, component), Path("mixed", component))
    index = json.loads(Path(path("p"), "model_index.json").read_text())
    listed = {name: each for name, each in index.items() if name in soups}
    Path("mixed/model_index.json").write_text(json.dumps(listed))
    return "mixed"


OTHERS = {
    "weights": {"ingredients": [path("p"), path("q")]},
    "ingredients": {"ingredients": [path("p"), path("r")]},
    "options": {"ingredients": PAIR, "dtype": DType.F32},
    "blocks": {"ingredients": [path("p"), path("q")], "blocks": BLOCKS},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_components_without_a_recipe_in_common_are_refused_with_the_way_out(other):
    verbs.average(Request(PAIR, "soup"))
    verbs.average(Request(output="other", **other))
    soup = mixed(text_encoder="soup", unet="soup", vae="other")

    with pytest.raises(LedgerError, match=r"mixed: .*components.*component picks one"):
        made_again(soup)
    assert "average" in "".join(verbs.recipe_of_soup(soup, component="unet"))


def test_a_soup_without_one_of_its_components_is_refused_with_the_way_out():
    verbs.average(Request(PAIR, "soup"))

    with pytest.raises(LedgerError, match=r"do not agree about .*component picks one"):
        made_again(mixed(text_encoder="soup", unet="soup"))


def test_components_averaged_one_by_one_have_no_recipe_in_common():
    for component in ("unet", "vae"):
        verbs.average(Request(PAIR, Path(component), component=component))
    for component in ("unet", "vae"):
        Path("one", component).parent.mkdir(exist_ok=True)
        shutil.copytree(component, Path("one", component))

    with pytest.raises(LedgerError, match=r"does not record .*component picks one"):
        made_again(mixed(unet="one", vae="one"))


def test_takes_of_donors_whose_order_is_not_recorded_are_refused_with_the_way_out():
    takes = (("norm", path("r")), ("quant_conv.*", path("r")))
    verbs.average(Request(PAIR, "soup", take=takes))

    with pytest.raises(LedgerError, match=r"in an order that .*component picks one"):
        made_again()


def test_a_recipe_holds_donors_to_the_content_of_the_components_that_they_give_to():
    verbs.average(Request(PAIR, "soup", take=(("quant_conv.*", path("r")),)))
    made_again()
    Path(path("r"), UNET).write_bytes(Path(path("p"), UNET).read_bytes())
    assert files(Path("soup")) == files(made_again())

    Path(path("r"), VAE).write_bytes(Path(path("p"), VAE).read_bytes())
    with pytest.raises(LedgerError, match=r"models/r: has content .* but is pinned"):
        made_again()
