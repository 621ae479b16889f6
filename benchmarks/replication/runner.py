"""How a study is run: one command line, one loop over the seeds, and one record of the result.

Rule 1: a study is cut into tasks. Each runs in a process that is forked from this one, and all
that they make is in the work folder, so an interrupted study is resumed.
Rule 2: rates are tried first, on validation images of the first seed. The ones with the least
loss are used for all seeds.
Rule 3: the record is written after each task, and says how many seeds are complete.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from machine import described_run

from replication import commands
from replication.domains import Domains
from replication.processes import StudyTask, results_of
from replication.settings import SETTINGS, Setting
from replication.work import Work


@dataclass(frozen=True, slots=True)
class RateTrial:
    """A learning rate that is tried for an arm."""

    source: str
    """The part of the study that it is tried in."""
    arm: str
    rate: float


class ReplicationStudy(Protocol):
    """What the runner needs of a study."""

    kind: str
    part_by_part: bool
    """Whether all seeds of a part come before the next part, not all parts of a seed."""
    work: Work
    setting: Setting
    domains: Domains
    rates: dict[str, dict[str, float]]
    """The chosen rates by source and arm; filled before any figures are asked for."""

    def domains_of(self, parts: Sequence[str]) -> list[str]:
        """The domains that these parts need."""

    def trials(self, parts: Sequence[str]) -> list[RateTrial]:
        """The rates that are tried for these parts."""

    def validation_loss(self, trial: RateTrial) -> float:
        """The loss of the first seed's model of an arm, trained with a rate."""

    def figures(self, part: str, seed: int) -> Any:
        """What is found in a part of the study for a seed, as JSON has it."""

    def described(self) -> dict[str, Any]:
        """What the tables of the result need besides the figures."""


def asked(
    parts: Sequence[str], about: str | None, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--seeds", type=int, help="at least 1; that of the setting by default")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, metavar="PART")
    parser.add_argument("--jobs", type=int, default=2, help="tasks at once; 2 by default")
    parser.add_argument("--folder", type=Path, required=True, help="where to work; kept")
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args(arguments)


def run(
    made: Callable[[Path, Setting], ReplicationStudy],
    parts: Sequence[str],
    about: str | None,
    arguments: Sequence[str] | None,
) -> int:
    """Make or resume a study."""
    chosen = asked(parts, about, arguments)
    commands.load()
    study = made(chosen.folder, SETTINGS[chosen.setting])
    chosen.folder.mkdir(parents=True, exist_ok=True)
    _prepare(study, study.domains_of(chosen.parts), chosen.jobs)
    tried: dict[str, list[dict[str, Any]]] = {}
    count = chosen.seeds or study.setting.seeds
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    groups = [[part] for part in chosen.parts] if study.part_by_part else [chosen.parts]
    for together in groups:
        tried |= _rates(study, together, chosen.jobs)
        for (part, seed), figures in _figures(study, together, count, chosen.jobs):
            found[seed][part] = figures
            study.work.say(f"seed {seed}: {part}")
            if chosen.output is not None:
                record = _record(study, chosen.parts, tried, found)
                chosen.output.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _figures(
    study: ReplicationStudy, parts: Sequence[str], seeds: int, jobs: int
) -> Iterator[tuple[Any, Any]]:
    """The figures of these parts, by part and seed, as they are found."""
    tasks = [
        StudyTask((part, seed), seed, lambda part=part, seed=seed: study.figures(part, seed))
        for part in parts
        for seed in range(seeds)
    ]
    return results_of(tasks, study.work, jobs)


def _prepare(study: ReplicationStudy, names: Sequence[str], jobs: int) -> None:
    """Train the classifiers; all that is forked later has them then."""
    # not here: threads that a training starts do not survive a fork
    tasks = [StudyTask(each, each, lambda each=each: study.domains[each].name) for each in names]
    for _ in results_of(tasks, study.work, jobs):
        pass
    for name in names:
        for part in ("validation", "test"):
            study.domains.judge(name, part)


def _rates(
    study: ReplicationStudy, parts: Sequence[str], jobs: int
) -> dict[str, list[dict[str, Any]]]:
    """Choose the rates of a study; all that were tried, by source."""
    trials = study.trials(parts)
    tasks = [
        StudyTask(each, (each.source, each.arm), lambda each=each: study.validation_loss(each))
        for each in trials
    ]
    losses = dict(results_of(tasks, study.work, jobs))
    found: dict[str, list[dict[str, Any]]] = {}
    for each in trials:
        row = {"arm": each.arm, "rate": each.rate, "validation": losses[each]}
        found.setdefault(each.source, []).append(row)
    for source, rows in found.items():
        # the last of an arm is the one with the least loss
        by_loss = sorted(rows, key=lambda row: -row["validation"])
        study.rates[source] = {row["arm"]: row["rate"] for row in by_loss}
        study.work.say(f"rates of {source}: {study.rates[source]}")
    return found


def _record(
    study: ReplicationStudy,
    parts: Sequence[str],
    tried: dict[str, list[dict[str, Any]]],
    found: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The result so far, as its file has it."""
    begun = [{part: each[part] for part in parts if part in each} for each in found if each]
    return {
        "study": study.kind,
        **described_run(study.work.root),
        "cost": study.work.cost(),
        "setting": asdict(study.setting),
        "complete_seeds": sum(len(each) == len(parts) for each in begun),
        **study.described(),
        "classifier_accuracy": study.domains.accuracy(),
        "floor": study.domains.floors(),
        "rates": study.rates,
        "rates_tried": tried,
        "seeds": begun,
        "runs": study.work.runs(),
    }
