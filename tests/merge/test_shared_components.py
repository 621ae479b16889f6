"""Pipelines that share components: all of them the VAE, or some of them and others not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from soupctl import verbs
from soupctl.checkpoints.checkpoint import open_checkpoint
from soupctl.checkpoints.digest import text_digest
from soupctl.checkpoints.layout import Component
from soupctl.errors import LedgerError, UsageError
from soupctl.ledger.entries import merged
from soupctl.ledger.ledger_json import encode_ledger
from soupctl.ledger.read import read_ledger


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


@pytest.fixture
def mixed(runs) -> list[str]:
    """The same pipelines, of which owls has a VAE of its own."""
    file = Path(runs[2], "vae", "diffusion_pytorch_model.safetensors")
    save_file({"x": np.full(4, 40, np.float32)}, file)
    return runs


@pytest.mark.parametrize("keep_sum", [False, True])
@pytest.mark.parametrize("by", ["path", "name", "weight"])
def test_a_pipeline_leaves_the_others_their_share_of_a_vae_that_some_have(
    mixed, tmp_path, by, keep_sum
):
    ingredients = [verbs.Ingredient(path) for path in mixed]
    verbs.average(verbs.Request(ingredients, tmp_path / "soup", keep_sum=keep_sum))
    expected = average(tmp_path / "direct", mixed[0], mixed[2])
    what = {"path": mixed[1], "name": "dogs", "weight": mixed[1]}[by]
    removal = verbs.Removal(what, Fraction(1) if by == "weight" else None)

    assert expected == change("subtract", tmp_path / "soup", tmp_path / "less", removed=[removal])


@pytest.mark.parametrize("by_path", [True, False])
def test_a_removed_pipeline_leaves_no_name_and_no_hint_at_its_files(mixed, tmp_path, by_path):
    average(tmp_path / "soup", *mixed)
    what = mixed[0] if by_path else "cats"
    change("subtract", tmp_path / "soup", tmp_path / "less", removed=[verbs.Removal(what)])
    shutil.rmtree(mixed[0])

    for _, ledger in verbs.history(tmp_path / "less"):
        assert {"dogs", "owls"} == {entry.name for entry in ledger.ingredients}
        assert not any("cats" in (entry.hint or "") for entry in ledger.ingredients)
        assert [("cats", -1)] == [(each.name, each.weight) for each in ledger.changed]
    assert all(each.reaches(verbs.Level.REBUILD) for each in verbs.verify(tmp_path / "less"))


def test_a_file_that_changed_is_passed_over_for_that_of_another_pipeline(mixed, tmp_path):
    average(tmp_path / "soup", *mixed)
    expected = average(tmp_path / "direct", *mixed[:2])
    file = Path(mixed[0], "vae", "diffusion_pytorch_model.safetensors")
    save_file({"x": np.full(4, 5, np.float32)}, file)

    made = change("subtract", tmp_path / "soup", tmp_path / "less", removed=[verbs.Removal("owls")])
    assert expected == made


def test_a_soup_changed_by_a_program_is_proven_whatever_its_pipelines_are_called(runs, tmp_path):
    average(tmp_path / "soup", runs[0])
    change("revise", tmp_path / "soup", tmp_path / "more", added=[verbs.Addition(runs[1])])

    assert [None, None] == [each.problem for each in verbs.verify(tmp_path / "more")]


def test_an_added_soup_equal_to_its_only_pipeline_is_not_its_hint(runs, tmp_path):
    average(tmp_path / "soup", runs[0])
    average(tmp_path / "single", runs[1])
    change("add", tmp_path / "soup", tmp_path / "more", added=[verbs.Addition(tmp_path / "single")])

    shutil.rmtree(tmp_path / "single")

    assert [None, None] == [each.problem for each in verbs.verify(tmp_path / "more")]


def test_pipelines_with_weights_that_cancel_in_a_shared_component_are_refused(mixed, tmp_path):
    pairs = zip(mixed, (Fraction(1), Fraction(-2), Fraction(4)), strict=True)
    ingredients = [verbs.Ingredient(path, weight) for path, weight in pairs]
    verbs.average(verbs.Request(ingredients, tmp_path / "soup"))

    part = verbs.Removal("dogs", Fraction(-1))
    with pytest.raises(UsageError, match="shared by pipelines whose weights cancel: cats, dogs"):
        change("subtract", tmp_path / "soup", tmp_path / "less", removed=[part])
    assert not (tmp_path / "less").exists()


def as_first_format(soup: Path) -> None:
    """Write the ledgers of a pipeline as the first format has them."""
    for file in soup.glob("*/*.safetensors"):
        with open_checkpoint(Component("", str(file), (file,))) as checkpoint:
            ledger = read_ledger(checkpoint)
        entries = tuple(replace(entry, pipelines=()) for entry in ledger.ingredients)
        text = encode_ledger(replace(ledger, ingredients=entries), text_digest, 1)
        save_file(load_file(file), file, {"soupctl": text})


@pytest.mark.parametrize("by", ["path", "name", "each"])
def test_a_ledger_of_the_first_format_that_cannot_say_is_refused(mixed, tmp_path, by):
    average(tmp_path / "soup", *mixed)
    as_first_format(tmp_path / "soup")
    before = sorted(tmp_path.iterdir())

    what = [verbs.Removal(mixed[0] if by == "path" else "dogs")]
    family = verbs.LeaveOneOut(tmp_path / "soup", str(tmp_path / "x-{name}"))
    refused = {
        "each": lambda: verbs.leave_one_out(family),
        "path": lambda: change("subtract", tmp_path / "soup", tmp_path / "less", removed=what),
        "name": lambda: change("subtract", tmp_path / "soup", tmp_path / "less", removed=what),
    }[by]
    with pytest.raises(LedgerError, match=r"does not record .*make the soup again with avg"):
        refused()
    assert before == sorted(tmp_path.iterdir())


def test_a_pipeline_in_a_ledger_of_the_first_format_is_not_added_again(mixed, tmp_path):
    average(tmp_path / "soup", *mixed)
    as_first_format(tmp_path / "soup")

    with pytest.raises(LedgerError, match=r"may be in the soup already, .*--again|again=True"):
        change("add", tmp_path / "soup", tmp_path / "more", added=[verbs.Addition(mixed[0])])


@pytest.mark.parametrize("by", ["path", "name"])
def test_a_ledger_of_the_first_format_that_can_say_is_changed_as_before(runs, tmp_path, by):
    average(tmp_path / "soup", *runs)
    as_first_format(tmp_path / "soup")
    expected = average(tmp_path / "direct", runs[0], runs[2])
    what = runs[1] if by == "path" else "dogs"

    made = change("subtract", tmp_path / "soup", tmp_path / "less", removed=[verbs.Removal(what)])
    assert expected == made
    again = change("subtract", tmp_path / "less", tmp_path / "one", removed=[verbs.Removal("owls")])
    assert average(tmp_path / "only", runs[0]) == again


@pytest.mark.parametrize("by_path", [True, False])
def test_one_component_loses_the_share_of_the_pipeline_that_is_named(mixed, tmp_path, by_path):
    average(tmp_path / "soup", *mixed)
    made = verbs.average(
        verbs.Request(
            [verbs.Ingredient(path) for path in mixed[1:]], tmp_path / "d", component="vae"
        )
    )
    less = {"output": tmp_path / "less", "component": "vae"}
    removed = [verbs.Removal(mixed[0] if by_path else "cats")]

    changed = verbs.revise(verbs.Revision("subtract", tmp_path / "soup", removed=removed, **less))

    assert made[0].ledger.root == changed[0].ledger.root


def test_a_shared_component_alone_does_not_tell_whose_share_is_removed(mixed, tmp_path):
    average(tmp_path / "soup", *mixed)
    part = verbs.Removal(f"{mixed[0]}/vae")

    with pytest.raises(LedgerError, match=r"part of several pipelines: .*give the name of one"):
        change("subtract", tmp_path / "soup", tmp_path / "none", component="vae", removed=[part])


def test_components_that_lie_about_a_pipeline_are_refused(mixed, tmp_path):
    """A ledger that gives a pipeline the content of another is found out by the digest."""
    average(tmp_path / "soup", *mixed)
    file = tmp_path / "soup" / "vae" / "diffusion_pytorch_model.safetensors"
    with open_checkpoint(Component("", str(file), (file,))) as checkpoint:
        ledger = read_ledger(checkpoint)
    first, second = ledger.ingredients
    entries = merged(
        (
            replace(first, pipelines=second.pipelines, weight=second.weight),
            replace(second, pipelines=first.pipelines, weight=first.weight),
        )
    )
    text = encode_ledger(replace(ledger, ingredients=entries), text_digest)
    save_file(load_file(file), file, {"soupctl": text})

    with pytest.raises(LedgerError, match="do not agree about dogs"):
        change("subtract", tmp_path / "soup", tmp_path / "x", removed=[verbs.Removal("dogs")])
