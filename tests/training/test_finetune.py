"""A run from base to a folder that diffusers loads and soupctl averages, for every family."""

from __future__ import annotations

import pytest

from soupctl import verbs

FAMILIES = ("text", "class", "dit", "plain")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_trained_loads_in_diffusers_and_averages_with_its_sibling(
    family, trained, bases, tiny, tmp_path
):
    for seed, name in enumerate("ab"):
        trained(family, tmp_path / name, seed=seed)
    request = verbs.Request(
        ingredients=[verbs.Ingredient(tmp_path / name / "model") for name in "ab"],
        output=tmp_path / "soup",
    )

    verbs.average(request)

    pipelines = [
        tiny.diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
        for folder in (bases[family], tmp_path / "a" / "model", tmp_path / "soup")
    ]
    name = "transformer" if family == "dit" else "unet"
    base, one, soup = (getattr(each, name).state_dict() for each in pipelines)
    assert base.keys() == one.keys() == soup.keys()
    assert not all(base[key].equal(one[key]) for key in base)
