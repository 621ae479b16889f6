"""Checkpoints, grids and metrics come at the steps that the options say."""

from __future__ import annotations

import json
from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_checkpoints_grids_and_metrics_come_at_their_steps(trained, tmp_path):
    out = tmp_path / "run"
    grids = {"sample_every": 3, "sample_steps": 2, "sample_grid": 1}

    trained("plain", out, steps=7, save_every=2, keep=2, log_every=4, **grids)

    rows = (out / "metrics.jsonl").read_text().splitlines()
    assert names(out / "checkpoints") == ["latest", "step-000006", "step-000007"]
    assert (out / "checkpoints" / "latest").read_text() == "step-000007\n"
    steps = (0, 3, 6, 7)
    assert names(out / "samples") == [f"step-{step:06}.png" for step in steps]
    assert [json.loads(row)["step"] for row in rows] == [2, 4, 6, 7]
    assert (out / "loss.png").is_file()


def test_a_logged_loss_is_the_mean_since_the_last_line(trained, tmp_path):
    seldom = {"steps": 4, "log_every": 2}
    trained("plain", tmp_path / "each", steps=4)
    trained("plain", tmp_path / "seldom", **seldom)

    def losses(name: str) -> list[float]:
        rows = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(row)["loss"] for row in rows]

    first, second, third, fourth = losses("each")
    assert losses("seldom") == [(first + second) / 2, (third + fourth) / 2]
