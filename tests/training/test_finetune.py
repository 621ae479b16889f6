"""A run from base to a folder that diffusers loads and soupctl averages, for every family."""

from __future__ import annotations

import shutil

import diffusers
import pytest

from soupctl import verbs
from soupctl.ledger.data_shard import data_digest, read_data_folder, read_data_record

FAMILIES = ("text", "class", "dit", "plain")
UNET_CONFIG = "unet/config.json"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_model_loads_in_diffusers_and_averages_with_its_sibling(
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
        diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
        for folder in (bases[family], tmp_path / "a" / "model", tmp_path / "soup")
    ]
    name = "transformer" if family == "dit" else "unet"
    base, one, soup = (getattr(each, name).state_dict() for each in pipelines)
    assert base.keys() == one.keys() == soup.keys()
    assert not all(base[key].equal(one[key]) for key in base)


def test_runs_of_one_command_read_their_base_once(running, bases, shards, tmp_path):
    chosen = running.Options(**running.SHORT)
    requests = [
        running.RunRequest(bases["plain"], data, tmp_path / data.name, chosen)
        for data in (shards["plain"], shards["class"])
    ]

    one, other = running.prepare(requests, running.start_accelerator(chosen))

    assert one.dataset != other.dataset
    assert one.digests is other.digests


@pytest.mark.parametrize("family", ["text", "class"])
def test_a_run_lists_its_images_and_the_ledger_binds_the_list(family, trained, shards, tmp_path):
    trained(family, tmp_path / "run")
    ((_, ledger),) = verbs.history(tmp_path / "run" / "model", component="unet")

    listed = read_data_record(tmp_path / "run" / "data.jsonl")

    assert listed == read_data_folder(shards[family]).images()
    assert ledger.training.data == data_digest(listed)


def test_dropout_of_the_base_is_not_used_and_reported(running, bases, shards, tmp_path):
    plans, results = [], []
    for name, dropout in (("without", "0.0"), ("with", "0.9")):
        base, output = tmp_path / name, tmp_path / f"from {name}"
        shutil.copytree(bases["plain"], base)
        config = (base / UNET_CONFIG).read_text()
        assert '"dropout": 0.0' in config
        (base / UNET_CONFIG).write_text(config.replace('"dropout": 0.0', f'"dropout": {dropout}'))
        chosen = running.Options(**running.SHORT)
        request = running.RunRequest(base, shards["plain"], output, chosen)
        (run,) = running.prepare([request], running.start_accelerator(chosen))
        plans.append(run.plan)
        results.append(running.finetune(run, running.ReporterSpy()).digest)

    told = "the base's dropout (0.9) is not used in training"
    assert [False, True] == [told in plan.notices for plan in plans]
    assert results[0] == results[1]
