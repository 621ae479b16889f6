"""Options and process counts that must not change a trained weight do not change it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch.utils.checkpoint
from launched import SOUPCTL, TWO, outcome

from soupctl.training.config_file import converted
from soupctl.training.options import Options

HALF_OF_THE_DIGITS = 2.0**-12
"""How far results in float32 may differ when sums are taken in another order in every layer."""


def digests(output: Path) -> tuple[str, str]:
    """The content digests of the mean of the weights and of the raw ones."""
    record = json.loads((output / "soupctl.json").read_text())
    return record["weights"], record["raw_weights"]


def rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("family", ["text", "class", "dit"])
def test_gradient_checkpointing_changes_nothing(trained, tmp_path, monkeypatch, family):
    checkpoint = torch.utils.checkpoint.checkpoint
    recomputed = {"without": 0, "with": 0}
    for name, on in (("without", False), ("with", True)):

        def counted(*arguments, name=name, **options):
            recomputed[name] += 1
            return checkpoint(*arguments, **options)

        monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", counted)
        trained(family, tmp_path / name, grad_checkpointing=on)

    assert 0 == recomputed["without"] < recomputed["with"]
    assert digests(tmp_path / "without") == digests(tmp_path / "with")


def test_options_that_change_only_time_change_no_weight(trained, tmp_path):
    trained("text", tmp_path / "plain", flip=True, random_crop=True)
    more = {"workers": 2, "sample_every": 1, "sample_steps": 2, "save_every": 1, "log_every": 3}

    trained("text", tmp_path / "other", flip=True, random_crop=True, **more)

    assert digests(tmp_path / "plain") == digests(tmp_path / "other")


@pytest.mark.timeout(240)
def test_workers_send_batches_whatever_the_length_of_tmpdir(trained, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    # it would wait for ever
    assert [1] == trained("plain", tmp_path / "run", steps=1, workers=1).steps
    assert [] == list(long.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"flip": True},
        {"noise_offset": 0.1},
        {"snr_gamma": 5.0},
        {"cond_drop": 1.0},
        {"lr": 1e-4},
        {"lr_schedule": "cosine"},
        {"warmup": 2},
        {"prediction": "sample"},
        {"weight_decay": 0.5},
        {"max_grad_norm": 1e-3},
        {"grad_accum": 2},
        {"ema_decay": 0.0},
        {"precision": "bf16"},
        {"save_dtype": "float16"},
    ],
    ids=str,
)
def test_options_that_change_numbers_change_the_weights(trained, change, reference, tmp_path):
    trained("text", tmp_path / "run", **_as_choices(change))

    assert reference != digests(tmp_path / "run")


@pytest.fixture(scope="module")
def reference(running, bases, shards, tmp_path_factory) -> tuple[str, str]:
    """The digests of a run with nothing changed."""
    output = tmp_path_factory.mktemp("reference") / "run"
    running.run(bases["text"], shards["text"], output, running.ReporterSpy())
    return digests(output)


def _as_choices(change: dict[str, object]) -> dict[str, object]:
    return converted(change, Path("change"), [Options])


def test_smaller_batches_that_are_accumulated_agree_with_one(trained, tmp_path):
    trained("class", tmp_path / "one", batch_size=4)
    trained("class", tmp_path / "many", batch_size=1, grad_accum=4)

    assert_rows_agree(rows(tmp_path / "one"), rows(tmp_path / "many"))


def test_two_processes_of_torchrun_agree_with_one(soupctl, bases, shards):
    for name in ("cats", "dogs"):
        shutil.copytree(shards["class"], Path("shards", name))
    Path("often.toml").write_text("log-every = 1")
    words = ["finetune", bases["class"], "--data", "shards/*", "--steps", 4, "--lr", 1e-3]
    words += ["--config", "often.toml", "--save-every", 2]
    alone = soupctl(*words, "-o", "one/{name}", "--batch-size", 4)
    assert alone.code == 0, alone.err

    halves = ("-o", "two/{name}", "--batch-size", 1, "--grad-accum", 2)
    code, said = outcome(*TWO, *SOUPCTL, *words, *halves, folder=Path.cwd())

    assert code == 0, said
    assert "batch      4 images (micro x accumulated x processes: 1 x 2 x 2)" in said
    for name in ("cats", "dogs"):
        one, two = (Path(runs, name) for runs in ("one", "two"))
        assert_rows_agree(rows(one), rows(two))
        assert (two / "model" / "model_index.json").is_file()


def assert_rows_agree(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    """Loss and gradient norm of each step agree to half of their digits."""
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for name in ("loss", "grad_norm"):
        expected = [row[name] for row in one]
        assert expected == pytest.approx([row[name] for row in other], rel=HALF_OF_THE_DIGITS)


def test_another_order_of_samples_does_not_agree(trained, tmp_path):
    trained("class", tmp_path / "one", batch_size=4)
    trained("class", tmp_path / "other", batch_size=4, seed=1)

    with pytest.raises(AssertionError):
        assert_rows_agree(rows(tmp_path / "one"), rows(tmp_path / "other"))
