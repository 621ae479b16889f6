"""Figures of a run as it goes on: `metrics.jsonl`, one object a line, and their smoothed course.

Rule 1: a run that goes on after an interruption drops the lines of steps that it makes again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..storage.atomic import publish_bytes

FILE = "metrics.jsonl"
SMOOTHING = 0.9
"""What share of the smoothed loss is the past, from one line to the next."""


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; none if there are none, and what a kill cut off is dropped."""
    path = out / FILE
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def rewind(out: Path, step: int) -> None:
    """Keep only the metrics of steps up to `step`."""
    rows = [row for row in read_metrics(out) if row["step"] <= step]
    data = "".join(map(_line, rows)).encode()
    publish_bytes(out / FILE, data, replace=True)


def append(out: Path, row: dict[str, Any]) -> None:
    """Add a line to a run's metrics."""
    with (out / FILE).open("a", encoding="utf-8") as file:
        file.write(_line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def smoothed(losses: Sequence[float]) -> list[float]:
    """The exponential mean of the losses so far, at each of them, starting from the first."""
    found: list[float] = []
    for loss in losses:
        found.append(SMOOTHING * found[-1] + (1 - SMOOTHING) * loss if found else loss)
    return found
