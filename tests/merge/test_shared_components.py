"""Pipelines of which one component was trained, and the others are the same in all."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from soupctl import verbs
from soupctl.errors import LedgerError, UsageError


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three pipelines with one VAE and a U-Net each."""
    paths = []
    for number, name in enumerate(("cats", "dogs", "owls"), 1):
        folder = tmp_path / name
        for component, value in (("unet", number), ("vae", 7)):
            (folder / component).mkdir(parents=True)
            tensors = {"x": np.full(4, value, np.float32)}
            save_file(tensors, folder / component / "diffusion_pytorch_model.safetensors")
        index = {"unet": ["diffusers", "UNet2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        paths.append(str(folder))
    return paths


def average(output: Path, *paths: str) -> tuple[str, ...]:
    ingredients = [verbs.Ingredient(path) for path in paths]
    made = verbs.average(verbs.Request(ingredients=ingredients, output=output))
    return tuple(each.ledger.root for each in made)


def change(operation: str, soup: Path, output: Path, **more) -> tuple[str, ...]:
    revision = verbs.Revision(operation, soup, output, **more)
    return tuple(each.ledger.root for each in verbs.revise(revision))


@pytest.mark.parametrize("by_path", [True, False])
def test_a_pipeline_is_removed_though_the_others_share_its_vae(runs, tmp_path, by_path):
    average(tmp_path / "soup", *runs)
    expected = average(tmp_path / "direct", runs[0], runs[2])
    what = runs[1] if by_path else "dogs"

    made = change(
        "subtract", tmp_path / "soup", tmp_path / "without", removed=[verbs.Removal(what)]
    )

    assert expected == made
    found = load_file(tmp_path / "without" / "unet" / "diffusion_pytorch_model.safetensors")
    assert found["x"].tolist() == [2.0] * 4
    weights = [ledger.ingredients[0].weight for _, ledger in verbs.history(tmp_path / "without")]
    assert weights == [Fraction(1), Fraction(2)]


def test_a_pipeline_is_added_though_the_others_share_its_vae(runs, tmp_path):
    expected = average(tmp_path / "direct", *runs)
    average(tmp_path / "soup", *runs[:2])

    made = change("add", tmp_path / "soup", tmp_path / "more", added=[verbs.Addition(runs[2])])

    assert expected == made


def test_a_pipeline_is_swapped_though_the_others_share_its_vae(runs, tmp_path):
    expected = average(tmp_path / "direct", runs[0], runs[2])
    average(tmp_path / "soup", *runs[:2])
    more = {"added": [verbs.Addition(runs[2])], "removed": [verbs.Removal(runs[1])]}

    assert expected == change("swap", tmp_path / "soup", tmp_path / "swapped", **more)


def test_adding_a_pipeline_twice_is_refused(runs, tmp_path):
    average(tmp_path / "soup", *runs)

    with pytest.raises(LedgerError, match="already"):
        change("add", tmp_path / "soup", tmp_path / "more", added=[verbs.Addition(runs[2])])


def test_removing_the_last_pipeline_is_refused(runs, tmp_path):
    average(tmp_path / "soup", runs[0])

    with pytest.raises(LedgerError, match="nothing would be left"):
        change("subtract", tmp_path / "soup", tmp_path / "none", removed=[verbs.Removal(runs[0])])


def test_a_pipeline_holds_an_ingredient_of_one_component(runs, tmp_path):
    average(tmp_path / "soup", *runs)

    assert verbs.holds(tmp_path / "soup", "dogs") is not None
    with pytest.raises(UsageError, match="cannot tell"):
        verbs.holds(tmp_path / "soup", "wolves")


def test_each_pipeline_is_left_out_in_turn_though_all_share_their_vae(runs, tmp_path):
    average(tmp_path / "soup", *runs)
    pairs = {"cats": runs[1:], "dogs": runs[::2], "owls": runs[:2]}
    expected = {name: average(tmp_path / f"of-{name}", *pair) for name, pair in pairs.items()}

    family = verbs.LeaveOneOut(tmp_path / "soup", str(tmp_path / "without-{name}"))
    made = verbs.leave_one_out(family)

    assert expected == {name: tuple(each.ledger.root for each in x) for name, x in made.items()}


def test_an_unknown_ingredient_of_a_pipeline_is_refused_naming_those_it_holds(runs, tmp_path):
    average(tmp_path / "soup", *runs)

    with pytest.raises(LedgerError, match=r"bats: .*it holds (cats|dogs|owls), .*, "):
        change("subtract", tmp_path / "soup", tmp_path / "none", removed=[verbs.Removal("bats")])
