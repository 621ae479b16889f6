"""What users should know of a soup though nothing is wrong: each a sentence for stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..checkpoints.checkpoint import Checkpoint
from ..kinds.kind import Role
from .plan import Plan, Rule
from .settings import dropped_settings

SHOWN = 3


def notes_on(plan: Plan, checkpoints: Sequence[Checkpoint]) -> Iterator[str]:
    """The notes on one component."""
    statistics = [
        step.name
        for step in plan.kept
        if step.kind.role is Role.STATISTIC and step.rule is Rule.AVERAGE
    ]
    if statistics:
        yield (
            f"{len(statistics)} statistics of batch normalisation are averaged: recalibrate them"
            " with a pass over data before use"
        )
    if dropped := dropped_settings(checkpoints):
        yield f"left behind metadata that not all ingredients agree on: {listed(dropped)}"


def listed(names: Sequence[str]) -> str:
    """A few of the names, and how many more there are."""
    rest = len(names) - SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:SHOWN]) + more
