"""The metrics of a run: `metrics.jsonl` and `validation.jsonl`, one object a line; smoothed losses.

Rule 1: a run that is resumed drops the lines of steps that it repeats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..storage.atomic import publish_bytes

FILE, VALIDATION = "metrics.jsonl", "validation.jsonl"
SMOOTHING = 0.9
"""Decay of the moving average from one line of metrics to the next."""


def read_metrics(out: Path, name: str = FILE) -> list[dict[str, Any]]:
    """The lines of a run's metrics up to one that is damaged, as a kill leaves it; maybe none."""
    path = out / name
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            break
        rows.append(row)
    return rows


def rewind(out: Path, step: int) -> None:
    """Keep only the metrics of steps up to `step`."""
    for name in (FILE, VALIDATION):
        rows = [row for row in read_metrics(out, name) if row["step"] <= step]
        data = "".join(map(_line, rows)).encode()
        if name == FILE or (out / name).exists():
            publish_bytes(out / name, data, replace=True)


def append_row(out: Path, row: dict[str, Any], name: str = FILE) -> None:
    """Add a line to a run's metrics."""
    with (out / name).open("a", encoding="utf-8") as file:
        file.write(_line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


@dataclass
class SmoothedLoss:
    """An exponential moving average of losses with bias correction.

    m_t = b m_{t-1} + (1 - b) x_t from m_0 = 0, divided by 1 - b^t: the weights of all losses so far
    sum to 1, so that the first ones count no more than others (Kingma and Ba 2015, section 3).
    """

    _average: float = 0.0
    _weight: float = 0.0

    def add(self, loss: float) -> float:
        """The average of the losses so far, this one included."""
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)
        return self._average / self._weight


def smoothed(losses: Iterable[float]) -> list[float]:
    """The bias-corrected exponential moving average at each loss; see `SmoothedLoss`."""
    average = SmoothedLoss()
    return [average.add(loss) for loss in losses]
