"""Recipes of pipelines with deltas and adapters, and recipes that are printed of such soups."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from delta_pipelines import (
    FILES,
    OF_TEXT,
    OF_UNET,
    added,
    apply,
    assert_same,
    both,
    lora,
    pipeline,
    values,
)
from making import contents, files
from revising import assert_proven

from soupctl import verbs
from soupctl.errors import SoupError, UsageError
from soupctl.verbs import Application, DeltaRequest, Ingredient, Revision


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


RECIPE = """
other-base = true
[inputs]
a = "base"
b = "other"
d = "d"
l = "lora.st"
[steps.mean]
average = ["a", "b"]
weights = [1, 3]
[steps.out]
base = "mean"
add = ["d", "l"]
scales = [0.5, 0.25]
"""


def test_a_recipe_adds_deltas_and_adapters_to_a_mean_of_pipelines():
    pipeline("base", 1)
    pipeline("other", 2, "vae", "text_encoder")
    pipeline("fine", 3, "vae", "text_encoder")
    verbs.make_delta(DeltaRequest("fine", "base", "d"))
    updates = both()
    Path("r.toml").write_text(RECIPE)

    # a mean of one content is no mean for a delta, which may give FINE on it
    with pytest.raises(UsageError, match="has the same content as"):
        verbs.run_recipe(verbs.RecipeRun("r.toml", "out", lock=True))
    pipeline("other", 2)
    verbs.run_recipe(verbs.RecipeRun("r.toml", "out", lock=True))
    verbs.run_recipe(verbs.RecipeRun("r.toml", "again", lock=True))

    for component, module in (("unet", OF_UNET), ("text_encoder", OF_TEXT)):
        one, two, fine = (
            values(name, component).astype(np.float64) for name in ("base", "other", "fine")
        )
        exact = (one + 3 * two) / 4 + (fine - one) / 2 + updates[module] / 4
        assert (exact.astype(np.float16) == values("out", component)).all()
    assert_same("again", "out")
    assert_proven("out")
    verbs.revise(Revision("subtract", "out", "left", removed=["lora.st"]))
    assert_proven("left")
    lora("lora.st", **{OF_UNET: 1, OF_TEXT: 9})
    with pytest.raises(SoupError, match="is pinned to"):
        verbs.run_recipe(verbs.RecipeRun("r.toml", "third", lock=True))


def test_a_component_that_no_delta_changes_is_a_plain_mean():
    pipeline("base", 1)
    pipeline("other", 2, "text_encoder")
    updates = both()
    text = RECIPE.replace('add = ["d", "l"]', 'add = ["l"]').replace("[0.5, 0.25]", "[1]")
    Path("r.toml").write_text(text.replace('d = "d"\n', "").replace("other-base = true", ""))

    verbs.run_recipe(verbs.RecipeRun("r.toml", "out"))
    pairs = [Ingredient("base", Fraction(1)), Ingredient("other", Fraction(3))]
    verbs.average(verbs.Request(pairs, "mean"))

    assert_same("mean", "out", "vae")
    one, two = (values(name, "unet").astype(np.float64) for name in ("base", "other"))
    mean = (one + 3 * two) / 4
    assert ((mean + updates[OF_UNET]).astype(np.float16) == values("out", "unet")).all()
    assert (added("base", "text_encoder", updates[OF_TEXT]) == values("out", "text_encoder")).all()
    assert_proven("out")
    verbs.revise(Revision("subtract", "out", "left", removed=["other"]))
    apply("base", "lora.st", output="never")
    assert_same("never", "left")


MEAN_WITH_LORA = """
[inputs]
base = "base"
other = "other"
lora = "lora.st"
[steps.mean]
average = ["base", "other"]
weights = [3, 1]
[steps.soup]
base = "mean"
add = ["lora"]
"""


def test_the_recipe_of_a_component_with_a_lora_of_several_models_makes_it_again():
    pipeline("base", 1)
    both()
    apply("base", "lora.st")
    ((_, ledger),) = verbs.history("out", component="unet")
    Path("r.toml").write_text("\n".join(verbs.recipe_of(ledger, "out/unet")))

    verbs.run_recipe(verbs.RecipeRun("r.toml", "again"))

    again = Path("again/diffusion_pytorch_model.safetensors")
    assert contents(again) == contents(Path("out", FILES["unet"]))
    with verbs.open_application(Application("base/unet", ["lora.st"], "x")) as job:
        (note,) = job.notes
    assert note == f"lora.st: left out, since other models have them: {OF_TEXT}"


def test_the_recipe_of_pipelines_with_deltas_and_a_lora_makes_the_same_folder():
    pipeline("base", 1)
    pipeline("fine", 2, "vae")
    pipeline("other", 3)
    verbs.make_delta(DeltaRequest("fine", "base", "d"))
    both()
    blocks = verbs.BlockWeights(
        (("down_*", (Fraction(1), Fraction(0))),), (Fraction(2), Fraction(1))
    )
    apply("base", ("lora.st", Fraction(-2, 3)), output="one")
    apply("other", "d", "lora.st", output="two", other_base=True, blocks=blocks)
    Path("mean.toml").write_text(MEAN_WITH_LORA)
    verbs.run_recipe(verbs.RecipeRun("mean.toml", "three"))

    for soup in ("one", "two", "three"):
        Path("r.toml").write_text("\n".join(verbs.recipe_of_soup(soup)))
        verbs.run_recipe(verbs.RecipeRun("r.toml", "again"), force=True)

        assert files(Path(soup)) == files(Path("again"))


@pytest.mark.parametrize("soup", ["mean/unet", "mean/text_encoder"])
def test_the_recipe_of_a_component_finds_its_ingredients(soup):
    pipeline("base", 1)
    pipeline("other", 2)
    verbs.average(verbs.Request(["base", "other"], "mean"))
    ((_, ledger),) = verbs.history(soup)
    Path("r.toml").write_text("\n".join(verbs.recipe_of(ledger, soup)))

    (made,) = verbs.run_recipe(verbs.RecipeRun("r.toml", "again"))

    assert ledger.root == made.ledger.root
