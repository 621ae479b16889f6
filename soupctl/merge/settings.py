"""Settings in the metadata of ingredients: those that differ are refused, or left out and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..checkpoints.checkpoint import Checkpoint
from ..errors import Issue, MismatchError
from ..kinds.settings import CONFIGS, MEANINGS, SAID

LONGEST_VALUE = 40


def require_same_settings(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise MismatchError for differing metadata that the meaning of the weights depends on."""
    issues = []
    for key in (*MEANINGS, *CONFIGS):
        holders = [each for each in checkpoints if key in each.metadata]
        for other in holders[1:]:
            if what := _difference(key, holders[0], other):
                advice = "models that mean different things by their weights are not averaged"
                issues.append(Issue(what, other.label, advice=advice))
    if issues:
        raise MismatchError.collected(issues)


def _difference(key: str, first: Checkpoint, other: Checkpoint) -> str | None:
    here, there = other.metadata[key], first.metadata[key]
    if here == there:
        return None
    if key in CONFIGS:
        # imported late, because most commands find no configs that differ
        from ..configs.compare import differences

        fields = differences("config.json", there.encode(), here.encode())
        said = ", ".join(f"{each.field} {each.other}, not {each.first}" for each in fields[:5])
        return f"its metadata {key!r} differ from {first.label}: {said}" if fields else None
    return f"its metadata say {key} {_short(here)} where {first.label} has {_short(there)}"


def _short(value: str) -> str:
    return repr(value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}...")


def dropped_settings(checkpoints: Sequence[Checkpoint]) -> tuple[str, ...]:
    """Metadata keys that the soup lacks because the ingredients do not agree on them."""
    return tuple(sorted(set(_dropped(checkpoints))))


def _dropped(checkpoints: Sequence[Checkpoint]) -> Iterator[str]:
    texts: dict[str, str] = {}
    counts: dict[str, int] = {}
    differ = set()
    for checkpoint in checkpoints:
        for key, text in checkpoint.metadata.items():
            if key.startswith(SAID) and "hash" not in key:
                counts[key] = counts.get(key, 0) + 1
                if texts.setdefault(key, text) != text:
                    differ.add(key)
    for key, count in counts.items():
        if key in differ or count < len(checkpoints):
            yield key
