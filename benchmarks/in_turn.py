"""Two commands in turn, so that what disturbs one disturbs the other.

Rule 1: the order of a pair alternates, and one more pair, which does not count, is a warm-up: the
first to read a file would pay for the second.
Rule 2: how busy the machine was is part of the record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from figures import Ratio, paired_ratio, seconds
from measure import Duration, timed

HEADINGS = ("soupctl", "its CPU", "limit", "wall ratio", "CPU ratio", "load")


@dataclass(frozen=True, slots=True)
class Pairs:
    """The runs of soupctl, and those of its limit in the same order."""

    ours: tuple[Duration, ...]
    limits: tuple[Duration, ...]
    load: float
    """Processes that ran or wanted to, when runs began: the median of the load average."""

    def as_json(self) -> dict[str, Any]:
        """The record of a result file."""
        walls = [[run.wall for run in runs] for runs in (self.ours, self.limits)]
        cpus = [[run.user + run.system for run in runs] for runs in (self.ours, self.limits)]
        return {
            "load": round(self.load, 1),
            "wall_s": [round(wall, 4) for wall in walls[0]],
            "cpu_s": [round(cpu, 4) for cpu in cpus[0]],
            "limit_wall_s": [round(wall, 4) for wall in walls[1]],
            "limit_cpu_s": [round(cpu, 4) for cpu in cpus[1]],
            "ratio": asdict(paired_ratio(*walls)),
            "cpu_ratio": asdict(paired_ratio(*cpus)),
        }


def in_turn(
    ours: Sequence[str],
    limit: Sequence[str],
    pairs: int,
    before: Callable[[], None],
    warm_up: bool = True,
) -> Pairs:
    """The runs of both commands, `pairs` of each; `before` is called before each run."""
    durations: tuple[list[Duration], list[Duration]] = ([], [])
    loads = []
    for side in turns(pairs + warm_up):
        before()
        loads.append(os.getloadavg()[0])
        durations[side].append(timed((ours, limit)[side]))
    counted = [tuple(runs[-pairs:]) for runs in durations]
    return Pairs(counted[0], counted[1], median(loads))


def turns(pairs: int) -> list[int]:
    """Whose turn it is, 0 for soupctl."""
    return [side for pair in range(pairs) for side in ((0, 1) if pair % 2 else (1, 0))]


def cells(record: dict[str, Any]) -> list[str]:
    """A record as cells under HEADINGS."""
    times = [seconds(median(record[name])) for name in ("wall_s", "cpu_s", "limit_wall_s")]
    ratios = [str(Ratio(**record[name])) for name in ("ratio", "cpu_ratio")]
    return [*times, *ratios, str(record["load"])]
