"""Where a bank with a gate helps: each condition against what must be ruled out, seed by seed.

Rule 1: a gain is of the gate only if the loss is below the base's, that of the same prompts without
a gate, and that of a gate that does not see the time; each by a 95 % interval over the seeds.
Rule 2: the smallest gain that would have been seen is the one that a two-sided t-test at 5 % finds
in four of five such studies, with the spread over seeds that was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from replication.banks import DMP, FIXED_GATE, FULL, PROMPTS
from replication.summaries import QUANTILES, half_width

FOUR_OF_FIVE = (1.376, 1.061, 0.978, 0.941, 0.920, 0.906, 0.896, 0.889, 0.883)
"""The 0.8 quantiles of Student's t with 1 to 9 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A bank with a gate, and its controls."""

    say: str
    case: str
    arm: str = DMP
    prompts: str = PROMPTS
    whole: str = FULL
    fixed: str | None = FIXED_GATE

    @property
    def controls(self) -> dict[str, str]:
        """What the arm is compared with, in words."""
        found = {"the base": "base", "prompts, no gate": self.prompts}
        if self.fixed is not None:
            found["time-free gate"] = self.fixed
        return found | {"full fine-tuning": self.whole}


CONDITIONS = (
    Condition("shapes", "shapes"),
    Condition("shapes, balanced", "shapes", "DMP, balanced"),
    Condition("shapes, base of half the width", "narrow"),
    Condition("many more shapes", "many"),
    Condition("digits", "digits"),
    Condition(
        "shapes, three times the steps",
        "options",
        "DMP, 3x steps",
        "prompts, 3x steps",
        "full fine-tuning, 3x steps",
        None,
    ),
    Condition("shapes, min-SNR weights", "options", "DMP, min-SNR", "prompts, min-SNR", fixed=None),
    Condition("shapes, top half", "options", "DMP, top half"),
    Condition("shapes, gate sees the class", "options", "DMP, time and class"),
    Condition("shapes, mixture of 2 prompts", "options", "mixture of 2"),
    Condition("shapes, mixture of 8 prompts", "options", "mixture of 8"),
    Condition("shapes, mixture of 32 prompts", "options", "mixture of 32"),
    Condition("shapes, 8 prompts before the sequence", "options", "DMP, 8 before the sequence"),
)


@dataclass(frozen=True, slots=True)
class Contrast:
    """The differences of an arm to one control, one for each seed, in per cent of the base."""

    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Below 0 if the arm is better."""
        return fmean(self.differences)

    @property
    def half(self) -> float | None:
        """Half of the 95 % interval of the mean; None of one seed."""
        return half_width(self.differences) if len(self.differences) > 1 else None

    @property
    def is_gain(self) -> bool:
        """Whether the interval lies below 0."""
        return self.half is not None and self.mean + self.half < 0

    @property
    def smallest_seen(self) -> float | None:
        """The smallest gain that would have been seen in four of five such studies."""
        if self.half is None:
            return None
        degrees = len(self.differences) - 2
        spread = stdev(self.differences) / sqrt(len(self.differences))
        return (QUANTILES[degrees] + FOUR_OF_FIVE[degrees]) * spread


Rows = Sequence[Mapping[str, Any]]


def rows_of(result: Mapping[str, Any], case: str) -> Rows:
    """What was found in a case, seed by seed."""
    return [seed[case] for seed in result["seeds"] if case in seed]


def contrast(rows: Rows, arm: str, other: str, field: str = "loss") -> Contrast:
    """An arm against another, in per cent of the base's loss."""
    found = [
        100 * (row["arms"][arm][field] - row["arms"][other][field]) / row["arms"]["base"][field]
        for row in rows
    ]
    return Contrast(tuple(found))


def distance_contrast(rows: Rows, arm: str, other: str, *, guided: bool = False) -> Contrast:
    """An arm against another by the distance of samples from the same noise; below 0 is nearer."""

    def distance(row: Mapping[str, Any], name: str) -> float:
        found = row["arms"][name]
        return float((found["guided"] if guided else found)["distance"])

    return Contrast(tuple(distance(row, arm) - distance(row, other) for row in rows))


def contrasts(result: Mapping[str, Any]) -> Iterator[tuple[Condition, dict[str, Contrast]]]:
    """Each condition of which a seed is known, with its contrasts by control."""
    for each in CONDITIONS:
        rows = rows_of(result, each.case)
        if rows:
            yield (
                each,
                {said: contrast(rows, each.arm, arm) for said, arm in each.controls.items()},
            )


def survives(found: Mapping[str, Contrast]) -> bool:
    """Whether the gain is the gate's: against the base and each control but full fine-tuning."""
    return all(each.is_gain for said, each in found.items() if said != "full fine-tuning")
