"""What lies beside the weights: what must agree, what goes along, and what is left behind."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from making import files, save, save_pipeline

from soupctl import verbs
from soupctl.errors import InputError, MismatchError, OutputError, UsageError
from soupctl.verbs import ExecutionOptions, Ingredient, Request

CONFIG = {"hidden_size": 4, "use_cache": True}
RECORDS = {
    "trainer_state.json": "step",
    "all_results.json": "loss",
    "logs/train.log": "line",
    "training_args.bin": "pickle",
}


@pytest.fixture
def runs(tmp_path):
    """Two folders as two runs of a trainer leave them."""
    folders = []
    for seed in (1, 2):
        folder = tmp_path / f"run{seed}"
        save(folder / "model.safetensors", {"format": "pt"}, w=np.full(4, seed, np.float16))
        (folder / "logs").mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "README.md").write_text(f"run {seed}")
        (folder / "notes.txt").write_text("the same in both")
        (folder / f"only{seed}.txt").write_text("in one alone")
        for name, text in RECORDS.items():
            (folder / name).write_text(f"{text} {seed}")
        folders.append(folder)
    return folders


def soup(*paths: Path, output: Path) -> tuple[str, ...]:
    """What an average of folders left behind."""
    with verbs.open_job(Request(list(map(Ingredient, paths)), output)) as job:
        verbs.carry_out(job)
        return verbs.preview(job).left_behind


def test_records_of_runs_are_left_behind_where_they_differ(runs, tmp_path):
    left_behind = soup(*runs, output=tmp_path / "soup")
    found = files(tmp_path / "soup")

    assert tuple(sorted(RECORDS)) == left_behind
    both = {"config.json", "model.safetensors", "README.md", "notes.txt"}
    assert both | {"only1.txt", "only2.txt"} == set(found)
    assert b"run 1" == found["README.md"]


def test_the_configs_of_a_model_that_is_left_out_are_left_out(runs, tmp_path):
    """The checkpoints of a trainer have configs of their own, which may differ."""
    for number, folder in enumerate(runs):
        saved = folder / "checkpoint-500"
        save(saved / "model.safetensors", w=np.zeros(4, np.float16))
        (saved / "config.json").write_text(json.dumps({"hidden_size": 4 + number}))
        (saved / "deeper").mkdir()
        (saved / "deeper/tokenizer.json").write_text("{}")
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer/tokenizer.json").write_text("{}")
    soup(*runs, output=tmp_path / "soup")
    found = files(tmp_path / "soup")

    assert "tokenizer/tokenizer.json" in found
    assert not any(name.startswith("checkpoint-500") for name in found)


def test_for_one_file_nothing_but_configs_is_looked_at(runs, tmp_path):
    os.mkfifo(runs[0] / "pipe")
    (runs[1] / "logs" / "again").symlink_to("..")
    soup(*runs, output=tmp_path / "soup.st")

    assert (tmp_path / "soup.st").is_file()


def test_any_number_of_companion_files_is_copied(runs, tmp_path):
    for number in range(120):
        (runs[0] / f"{number}.txt").write_text("x")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # other tests of this process may have left some open
    few = len(os.listdir("/dev/fd")) + 80
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
        soup(*runs, output=tmp_path / "soup")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert 120 == len(list((tmp_path / "soup").glob("[0-9]*.txt")))


@pytest.mark.parametrize("output", ["soup", "soup.st"])
def test_configs_that_differ_are_refused_with_a_way_out_that_works(runs, tmp_path, output):
    text = json.dumps({**CONFIG, "hidden_size": 8})
    (runs[1] / "config.json").write_text(text)

    with pytest.raises(MismatchError) as caught:
        soup(*runs, output=tmp_path / output)
    (issue,) = caught.value.issues
    assert (runs[1] / "config.json", f"hidden_size is 8, but 4 in {runs[0]}/config.json") == (
        issue.path,
        issue.what,
    )
    assert "--config-from INPUT chooses the configs of one input" == issue.advice
    verbs.average(Request(runs, tmp_path / output, config_from=runs[1]))
    if output == "soup":
        assert text.encode() == files(tmp_path / output)["config.json"]


def test_configs_that_change_the_meaning_of_weights_are_refused_even_with_config_from(
    runs, tmp_path
):
    (runs[0] / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 10000}))
    (runs[1] / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 500000}))

    for source in (None, *runs):
        with pytest.raises(MismatchError) as caught:
            verbs.average(Request(runs, tmp_path / "soup", config_from=source))
        (issue,) = caught.value.issues
        assert "rope_theta is 500000, but 10000 in" in issue.what
        assert issue.advice is not None
        assert "--config-from" not in issue.advice


def test_configs_are_those_of_the_first_folder_unless_another_is_named(runs, tmp_path):
    for run, cache in zip(runs, (True, False), strict=True):
        (run / "config.json").write_text(json.dumps({**CONFIG, "use_cache": cache}))
    soup(*runs, output=tmp_path / "soup")
    verbs.average(Request(runs, tmp_path / "other", config_from=f"{runs[1]}/."))

    for output, expected in (("soup", True), ("other", False)):
        assert expected == json.loads(files(tmp_path / output)["config.json"])["use_cache"]
    assert b"run 1" == files(tmp_path / "other")["README.md"]


@pytest.mark.parametrize("named", ["elsewhere", "run3", ""])
def test_the_source_of_configs_is_an_input(runs, tmp_path, named):
    with pytest.raises(UsageError, match="names no input"):
        verbs.average(Request(runs, tmp_path / "soup", config_from=named))


def test_the_source_of_configs_is_a_folder(runs, tmp_path):
    file = runs[1] / "model.safetensors"
    with pytest.raises(UsageError, match="is a file, which has no configs"):
        verbs.average(Request([runs[0], file], tmp_path / "soup", config_from=file))


def test_a_link_to_a_config_is_never_written_through(runs, tmp_path):
    (tmp_path / "blob").write_text(json.dumps({**CONFIG, "hidden_size": 8}))
    (runs[1] / "config.json").unlink()
    (runs[1] / "config.json").symlink_to(tmp_path / "blob")
    before = files(tmp_path)

    with pytest.raises(InputError, match=r"config\.json: is a link out of its folder"):
        soup(*runs, output=tmp_path / "soup")
    assert before == files(tmp_path)


def test_no_link_is_followed_out_of_a_folder(runs, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("PRIVATE")
    (runs[0] / "README.md").unlink(missing_ok=True)
    (runs[0] / "README.md").symlink_to("../secret/key")
    (runs[0] / "docs").symlink_to("../secret")
    (runs[0] / "NOTICE").symlink_to("LICENSE")
    (runs[0] / "LICENSE").write_text("free")
    soup(*runs, output=tmp_path / "soup")

    assert not any(b"PRIVATE" in raw for raw in files(tmp_path / "soup").values())
    assert "free" == (tmp_path / "soup" / "NOTICE").read_text()


def test_the_links_of_a_hub_cache_to_its_blobs_are_followed(runs, tmp_path):
    for number, run in enumerate(runs):
        cache = tmp_path / f"models--org--name{number}"
        (cache / "snapshots").mkdir(parents=True)
        (cache / "blobs").mkdir()
        snapshot = cache / "snapshots" / "main"
        run.rename(snapshot)
        (snapshot / "config.json").rename(cache / "blobs" / "0123")
        (snapshot / "config.json").symlink_to("../../blobs/0123")
    soup(*tmp_path.glob("models--*/snapshots/main"), output=tmp_path / "soup")

    assert (tmp_path / "soup" / "config.json").is_file()


@pytest.mark.parametrize(
    "name", ["x.joblib", "x.pyw", "x.tar.gz", "x.js", "x.jar", "run", "x.params", "vocab.dill"]
)
def test_code_archives_and_files_of_unknown_kinds_are_left_behind(runs, tmp_path, name):
    for run in runs:
        (run / name).write_bytes(b"#!/bin/sh\n")
    soup(*runs, output=tmp_path / "soup")

    assert not (tmp_path / "soup" / name).exists()


def test_a_shard_may_have_the_name_of_a_config(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        save(folder / "config.json", w=np.float32([number]))
        index = {"metadata": {}, "weight_map": {"w": "config.json"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    soup(*folders, output=tmp_path / "soup")

    assert {"config.json", "model.safetensors.index.json"} == set(files(tmp_path / "soup"))


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(path.read_bytes())
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [rewritten, replaced, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "b/unet/config.json",
        "a/tokenizer/vocab.json",
        "b/model_index.json",
        "b/text_encoder/model.safetensors.index.json",
    ],
)
def test_a_file_that_changes_after_it_was_compared_is_refused(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    pipelines = [save_pipeline(tmp_path / letter, seed) for seed, letter in enumerate("ab")]

    def at_work(_size: int) -> None:
        if not changed:
            changed.append(change(tmp_path / name))

    changed: list[None] = []
    request = Request(list(map(Ingredient, pipelines)), tmp_path / "soup")
    with pytest.raises(OutputError, match=f"{name}: changed while it was read"):
        verbs.average(request, execution=ExecutionOptions(1, None, at_work))
    assert ["a", "b"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_config_that_changes_is_refused_also_for_one_file(runs, tmp_path):
    request = Request(list(map(Ingredient, runs)), tmp_path / "soup.st")

    with verbs.open_job(request) as job:
        (runs[1] / "config.json").write_text("{}")
        with pytest.raises(OutputError, match=r"config\.json: changed while it was read"):
            verbs.carry_out(job)
    assert not (tmp_path / "soup.st").exists()
