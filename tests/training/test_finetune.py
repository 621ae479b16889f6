"""A run from base to a folder that diffusers loads and soupctl averages, for every family."""

from __future__ import annotations

import shutil

import pytest
import torch
from family_images import PROMPTS, drawn, require_exact_soup

from soupctl import verbs
from soupctl.ledger.data_shard import data_digest, read_data_folder, read_data_record

FAMILIES = ("text", "class", "dit", "plain", "sdxl", "sd3", "flux")
UNET_CONFIG = "unet/config.json"


@pytest.mark.parametrize("family", FAMILIES)
def test_two_data_shards_average_draw_and_one_is_removed_exactly(
    family, running, bases, families, shards, tiny, tmp_path
):
    base, first = {**bases, **families}[family], shards.get(family, shards["text"])
    with_classes = family in ("class", "dit")
    second = (tiny.class_shard if with_classes else tiny.captioned_shard)(tmp_path / "other", 1)
    for name, data in (("one", first), ("two", second)):
        running.run(base, data, tmp_path / name, running.ReporterSpy(), steps=1, resolution=8)

    soup = require_exact_soup(
        [tmp_path / name / "model" for name in ("one", "two")], tmp_path, running
    )

    request = {"classes": (2, 0)} if with_classes else {"prompts": PROMPTS}
    request = {} if family == "plain" else request
    assert not torch.equal(drawn(soup, **request), drawn(base, **request))


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
