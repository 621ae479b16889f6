"""A text encoder that is trained is part of the ingredient: published, averaged, recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from soupctl import verbs
from soupctl.errors import InputError, UsageError

TEXT = "text_encoder/model.safetensors"
OPTIONS = {"train_text_encoder": True, "save_every": 2, "lr": 1e-2}


@pytest.fixture(scope="module")
def old_base(bases, tmp_path_factory) -> Path:
    """A base whose text encoder's tensors have their first names, and a buffer among them."""
    base = tmp_path_factory.mktemp("named") / "base"
    shutil.copytree(bases["text"], base)
    stored = {f"text_model.{name}": value for name, value in load_file(base / TEXT).items()}
    stored["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(stored, base / TEXT, {"format": "pt"})
    return base


@pytest.fixture(scope="module")
def runs(running, old_base, shards, tmp_path_factory) -> dict[str, Path]:
    """Two runs that train text encoders, and one that does not."""
    folder = tmp_path_factory.mktemp("texts")
    for name, more in (("a", {}), ("b", {"seed": 1}), ("plain", {"train_text_encoder": False})):
        out, spy = folder / name, running.ReporterSpy()
        running.run(old_base, shards["text"], out, spy, **{**OPTIONS, **more})
    return {name: folder / name for name in ("a", "b", "plain")}


def record(run: Path) -> dict:
    return json.loads((run / "soupctl.json").read_text())


def test_the_published_text_encoder_is_trained_under_the_names_of_the_base(runs, old_base):
    before, after = load_file(old_base / TEXT), load_file(runs["a"] / "model" / TEXT)

    assert {name: value.shape for name, value in before.items()} == {
        name: value.shape for name, value in after.items()
    }
    moved = {name for name in before if not before[name].equal(after[name])}
    assert before.keys() - moved == {"text_model.embeddings.position_ids"}
    assert load_file(runs["plain"] / "model" / TEXT).keys() == before.keys()
    loaded = StableDiffusionPipeline.from_pretrained(runs["a"] / "model", local_files_only=True)
    name = "final_layer_norm.weight"
    assert after[f"text_model.{name}"].equal(loaded.text_encoder.state_dict()[name])


def test_it_has_raw_weights_a_ledger_and_its_digests_in_the_record(runs):
    found = record(runs["a"])
    pairs = verbs.history(runs["a"] / "model", component="text_encoder")
    ((_, ledger),) = pairs

    assert found["text_encoders"] == {"text_encoder": ledger.root}
    assert found["raw_text_encoders"] != found["text_encoders"]
    assert ledger.training.base == found["base"]["digests"]["text_encoder"]
    assert ledger.training.options["train_text_encoder"] == "True"
    assert "text_encoders" not in record(runs["plain"])
    assert not (runs["plain"] / "raw" / "text_encoder").exists()
    assert found["weights"] != record(runs["plain"])["weights"]


def test_ingredients_average_with_their_text_encoders(runs, tmp_path):
    models = [runs[name] / "model" for name in "ab"]
    ingredients = [verbs.Ingredient(model) for model in models]
    verbs.average(verbs.Request(ingredients=ingredients, output=tmp_path / "soup"))

    one, other, soup = (load_file(each / TEXT) for each in (*models, tmp_path / "soup"))
    assert all(
        torch.allclose((one[name] + other[name]) / 2, soup[name])
        for name in one
        if one[name].is_floating_point()
    )
    assert not one.keys() ^ soup.keys()


def test_a_resumed_run_equals_an_uninterrupted_one(runs, running, old_base, shards, tmp_path):
    shutil.copytree(runs["a"], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    shutil.rmtree(tmp_path / "run" / "model")

    spy = running.ReporterSpy()
    running.run(old_base, shards["text"], tmp_path / "run", spy, **OPTIONS)

    assert spy.steps == [3, 4]
    straight, resumed = record(runs["a"]), record(tmp_path / "run")
    for name in ("weights", "raw_weights", "text_encoders", "raw_text_encoders"):
        assert straight[name] == resumed[name]


def test_its_parameters_are_planned_as_trained(running, bases, shards, tmp_path):
    data = [shards["text"]]
    (run,) = running.prepared_runs(bases["text"], data, tmp_path, train_text_encoder=True)
    (plain,) = running.prepared_runs(bases["text"], data, tmp_path)

    texts = sum(each.numel() for each in load_file(bases["text"] / TEXT).values())
    assert plain.plan.trained + texts == run.plan.trained
    assert plain.plan.frozen - texts == run.plan.frozen


def test_it_is_refused_where_there_is_none_and_for_averages_of_snapshots(
    runs, running, bases, shards, tmp_path
):
    with pytest.raises(UsageError) as refusal:
        running.prepared_runs(bases["plain"], [shards["plain"]], tmp_path, train_text_encoder=True)
    expected = "has no text encoder (remove --train-text-encoder)"
    assert refusal.value.message().endswith(expected)
    request = verbs.EmaRequest([runs["a"]], tmp_path / "x.st", sigma_rel=0.1)
    with pytest.raises(InputError, match="trains text encoders, too"):
        verbs.time_average(request)
