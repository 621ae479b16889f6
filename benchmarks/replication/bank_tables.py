"""The results of the study of banks as tables of Markdown.

Rule 1: a change is in per cent of the loss of the same seed's base; below 0 is better.
Rule 2: every arm has a row, and the rates of every arm that was trained are listed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replication.bank_words import in_words
from replication.banks import DMP, FIXED_GATE, FULL, PROMPTS
from replication.contrasts import (
    Contrast,
    Rows,
    contrast,
    contrasts,
    distance_contrast,
    rows_of,
    survives,
)
from replication.paired import TENTHS
from replication.summaries import figure, table


def written(result: Mapping[str, Any]) -> list[str]:
    """All tables but those of rates and runs."""
    lines = ["#### In words", "", *in_words(result)]
    lines += ["#### Where a gate helps", "", *conditions(result)]
    lines += ["Distances of samples, in the same way (below 0, those with a gate are nearer):", ""]
    lines += distances(result)
    for name, case in result["cases"].items():
        rows = rows_of(result, name)
        if not rows:
            continue
        lines += [f"#### {name}: {case['say']}", ""]
        lines += arms(rows)
        if name != "options":
            lines += samples(rows, result["floor"][case["domain"]])
        lines += timesteps(rows)
    return [*lines, "#### The bases", "", *bases(result)]


def conditions(result: Mapping[str, Any]) -> list[str]:
    """Each condition against its controls, and the smallest gain that would have been seen."""
    head = ("DMP against:", "the base", "prompts without gate", "time-free gate")
    body = []
    for each, found in contrasts(result):
        cells = [
            _difference(found.get(said))
            for said in ("the base", "prompts, no gate", "time-free gate", "full fine-tuning")
        ]
        seen = found["prompts, no gate"].smallest_seen
        body.append(
            (
                each.say,
                *cells,
                "" if seen is None else f"{seen:.3f}",
                "yes" if survives(found) else "no",
            )
        )
    last = ("full fine-tuning", "smallest gain that would be seen", "is a gain of the gate")
    return table((*head, *last), body)


def distances(result: Mapping[str, Any]) -> list[str]:
    """The distance of samples of DMP less that of each control, by base."""
    body = []
    for name in result["cases"]:
        rows = rows_of(result, name)
        if not rows or name == "options":
            continue
        for guided in (False, True):
            if guided and "guided" not in rows[0]["arms"]["base"]:
                continue
            found = [
                distance_contrast(rows, DMP, arm, guided=guided)
                for arm in ("base", PROMPTS, FIXED_GATE, FULL)
            ]
            seen = found[1].smallest_seen
            cells = [figure(each.differences, 1, sign=True) for each in found]
            last = "" if seen is None else f"{seen:.1f}"
            body.append((f"{name}, with guidance" if guided else name, *cells, last))
    head = ("DMP against:", "the base", "prompts without gate", "time-free gate")
    return table((*head, "full fine-tuning", "smallest gain that would be seen"), body)


def _difference(found: Contrast | None) -> str:
    return "" if found is None else figure(found.differences, 3, sign=True)


def arms(rows: Rows) -> list[str]:
    """The loss of each arm, and what its gate does."""
    head = (
        "arm",
        "rate",
        "test loss, %",
        "error of a seed",
        "gate moves, %",
        "in use, %",
    )
    body = []
    for name in rows[0]["arms"]:
        if name == "base":
            continue
        found = [row["arms"][name] for row in rows]
        error = max(each["error_to"]["base"] for each in found)
        gates = [each["gate"] for each in found if "gate" in each]
        body.append(
            (
                name,
                f"{found[0]['rate']:g}",
                _difference(contrast(rows, name, "base")),
                f"{error:.3f}",
                *(
                    figure([100 * gate[field] for gate in gates], 1)
                    for field in ("change", "in_use")
                ),
            )
        )
    return table(head, body)


def samples(rows: Rows, floor: float) -> list[str]:
    """What the classifier says of samples, with and without guidance."""
    head = ["arm", "attributes right, %", "distance", "distance less the base's"]
    is_guided = any("guided" in each for each in rows[0]["arms"].values())
    head += ["distance with guidance", "less the base's"] if is_guided else []
    body = []
    for name, first in rows[0]["arms"].items():
        if "distance" not in first:
            continue
        found = [row["arms"][name] for row in rows]
        cells = [name, figure([100 * each["attributes"] for each in found], 1)]
        cells += _distances(rows, name, lambda arm: arm["distance"])
        if is_guided:
            cells += _distances(rows, name, lambda arm: arm["guided"]["distance"])
        body.append(cells)
    rest = [""] * (len(head) - 3)
    return table(head, [*body, ["other real images (floor)", "", f"{floor:.1f}", *rest]])


def _distances(rows: Rows, name: str, of: Any) -> list[str]:
    values = [of(row["arms"][name]) for row in rows]
    base = [of(row["arms"]["base"]) for row in rows]
    less = [one - other for one, other in zip(values, base, strict=True)]
    return [figure(values, 1), "" if name == "base" else figure(less, 1, sign=True)]


def timesteps(rows: Rows) -> list[str]:
    """The change of the loss by tenth of the timesteps: the mean over the seeds."""
    wide = 1000 // TENTHS
    head = ("change of the loss, %", *(f"t {n * wide}-{(n + 1) * wide - 1}" for n in range(TENTHS)))
    body = []
    for name in rows[0]["arms"]:
        if name != "base":
            changes = [tenth_changes(row, name) for row in rows]
            means = [sum(each) / len(rows) for each in zip(*changes, strict=True)]
            body.append((name, *(f"{each:+.3f}" for each in means)))
    return table(head, body)


def tenth_changes(row: Mapping[str, Any], name: str) -> list[float]:
    """The change of an arm's loss in each tenth, in per cent of the base's there."""
    pairs = zip(row["arms"][name]["tenths"], row["arms"]["base"]["tenths"], strict=True)
    return [100 * (one / other - 1) for one, other in pairs]


def bases(result: Mapping[str, Any]) -> list[str]:
    """How the held-out loss ended while the bases were trained."""
    head = ("base", "test loss", "validation loss at 4/5 of the steps", "at the end", "change, %")
    body = []
    for name in result["cases"]:
        rows = rows_of(result, name)
        if not rows or name == "options":
            continue
        curves = [row["curve"] for row in rows]
        late = [each[round(0.8 * (len(each) - 1))]["validation_loss"] for each in curves]
        last = [each[-1]["validation_loss"] for each in curves]
        change = [100 * (end / begin - 1) for begin, end in zip(late, last, strict=True)]
        loss = [row["arms"]["base"]["loss"] for row in rows]
        numbers = (figure(each, 5) for each in (loss, late, last))
        body.append((name, *numbers, figure(change, 2, sign=True)))
    return table(head, body)
