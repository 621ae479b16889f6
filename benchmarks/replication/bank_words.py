"""What the study of banks found, in sentences that follow from its figures.

Rule 1: a sentence says that something is better or worse only if the 95 % interval over the seeds
says so; with one seed there is no interval, and so no such sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from replication.banks import DMP, FIXED_GATE, FULL, PROMPTS
from replication.contrasts import (
    Contrast,
    contrast,
    contrasts,
    distance_contrast,
    rows_of,
    survives,
)
from replication.summaries import figure

PUBLISHED = (
    "prompts, weight 1, as published",
    "prompts, no gate, rate as published",
    "DMP, as published",
)
DEPTHS = ("DMP, first block", "DMP, first two blocks", DMP)


def in_words(result: Mapping[str, Any]) -> list[str]:
    """The sentences, as a list of Markdown."""
    lines = [*_convergence(result), *_gate(result), *_published(result), *_depth(result)]
    return [*(f"- {each}" for each in [*lines, *_distances(result)]), ""]


def said(found: Contrast, unit: str = " %", digits: int = 3) -> str:
    """Whether a difference is one, in a word, and its size; below 0 is better."""
    size = f"{figure(found.differences, digits, sign=True)}{unit}"
    if found.half is None:
        return f"{size} in one seed"
    if abs(found.mean) <= found.half:
        return f"{size}, no difference that can be told from none"
    return f"{size}, {'better' if found.mean < 0 else 'worse'}"


def _convergence(result: Mapping[str, Any]) -> Iterator[str]:
    parts = [name for name in result["cases"] if name != "options" and rows_of(result, name)]
    sizes = [f"{name} {said(contrast(rows_of(result, name), FULL, 'base'))}" for name in parts]
    if sizes:
        yield f"Full fine-tuning on the same data, against the base: {'; '.join(sizes)}."


def _gate(result: Mapping[str, Any]) -> Iterator[str]:
    found = list(contrasts(result))
    several = [(each, by) for each, by in found if len(by["the base"].differences) > 1]
    if not several:
        return
    better = [each.say for each, by in several if by["the base"].is_gain]
    yield f"Conditions in which a bank with a gate is better than its base: {_listed(better)}."
    kept = [each.say for each, by in several if survives(by)]
    yield (
        "Conditions in which it is better than the same prompts without a gate and than a gate "
        f"that does not see the time, too: {_listed(kept)}. Of {len(several)} conditions, chance "
        "alone passes one control in one of 40."
    )
    against = [by["prompts, no gate"] for _, by in several]
    seen = sorted(each.smallest_seen or 0 for each in against)
    means = sorted(each.mean for each in against)
    yield (
        f"The gate's difference to the same prompts without it lies between {means[0]:+.3f} and "
        f"{means[-1]:+.3f} %. The smallest gain that the test would see in four of five such "
        f"studies lies between {seen[0]:.3f} and {seen[-1]:.3f} %, by condition."
    )


def _listed(names: list[str]) -> str:
    return "; ".join(names) if names else "none"


def _published(result: Mapping[str, Any]) -> Iterator[str]:
    if rows := rows_of(result, "options"):
        sizes = [f"{arm}: {said(contrast(rows, arm, 'base'))}" for arm in PUBLISHED]
        yield f"At the published rate of 1e-4, against the base: {'; '.join(sizes)}."


def _depth(result: Mapping[str, Any]) -> Iterator[str]:
    if rows := rows_of(result, "options"):
        names = ("first block", "first two blocks", "all three blocks")
        pairs = zip(names, DEPTHS, strict=True)
        sizes = [f"{name} {said(contrast(rows, arm, 'base'))}" for name, arm in pairs]
        yield f"Prompts in fewer blocks, against the base: {'; '.join(sizes)}."


def _distances(result: Mapping[str, Any]) -> Iterator[str]:
    for name in result["cases"]:
        rows = rows_of(result, name)
        if not rows or name == "options":
            continue
        sizes = []
        for arm in (FULL, PROMPTS, FIXED_GATE, DMP):
            less = [row["arms"][arm]["distance"] - row["arms"]["base"]["distance"] for row in rows]
            sizes.append(f"{arm} {figure(less, 1, sign=True)}")
        base = figure([row["arms"]["base"]["distance"] for row in rows], 1)
        floor = result["floor"][result["cases"][name]["domain"]]
        gate = distance_contrast(rows, DMP, PROMPTS)
        yield (
            f"Distance of samples, {name}: base {base}, other real images {floor:.1f}; less the "
            f"base's: {'; '.join(sizes)}. DMP less prompts without a gate: {said(gate, '', 1)}."
        )
