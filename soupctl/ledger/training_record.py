"""What a ledger says of a checkpoint that is no soup: what it was trained from, and on what.

Rule 1: it holds no clock and no path, so equal runs have equal records.
Rule 2: like all of a ledger it is attacker text: what is read is checked in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """One run of training."""

    base: str
    """Content digest of what it began with."""
    data: str
    """Digest of the data shard: files, captions and labels."""
    data_name: str
    """What the data shard's folder is called."""
    samples: int
    """Images in the data shard."""
    steps: int
    """Optimizer steps."""
    weights: str
    """Whether these are the `raw` weights or their mean, `ema`."""
    options: Mapping[str, str]
    """Those that change numbers, the seed among them."""
    versions: Mapping[str, str]
    """Of soupctl and of the libraries that trained."""


def encode_training(training: TrainingRecord) -> dict[str, Any]:
    """The record as JSON has it."""
    return {
        "base": training.base,
        "data": {
            "digest": training.data,
            "name": training.data_name,
            "samples": training.samples,
        },
        "options": dict(training.options),
        "steps": training.steps,
        "versions": dict(training.versions),
        "weights": training.weights,
    }


def parse_training(value: Any, digest: Callable[[object], str]) -> TrainingRecord:
    """The record that JSON holds, its digests checked by `digest`.

    Raises TypeError, ValueError or KeyError for what is none.
    """
    data = value["data"]
    return TrainingRecord(
        base=digest(value["base"]),
        data=digest(data["digest"]),
        data_name=_text(data["name"]),
        samples=_count(data["samples"]),
        steps=_count(value["steps"]),
        weights=_text(value["weights"]),
        options=_texts(value["options"]),
        versions=_texts(value["versions"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _count(value: object) -> int:
    # True is an int to Python
    if type(value) is not int or value < 1:
        raise ValueError("a count is missing")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("an object of texts is missing")
    return {key: _text(text) for key, text in value.items()}
