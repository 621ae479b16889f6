"""The record of a training run in the ledger of a trained checkpoint.

Rule 1: it holds no clock and no path, so equal runs have equal records.
Rule 2: like all of a ledger it is untrusted input, and checked in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..frozen import frozen


@frozen
class TrainingRecord:
    """One run of training."""

    base: str
    """Content digest of the base."""
    data: str
    """Digest of the data shard: files, captions and labels."""
    data_name: str
    """Name of the data shard's folder."""
    samples: int
    """Images in the data shard."""
    steps: int
    """Optimizer steps."""
    weights: str
    """`raw`, or `ema` for the exponential moving average of the weights."""
    options: Mapping[str, str]
    """Options that affect the result, including the seed."""
    versions: Mapping[str, str]
    """Versions of soupctl and of the training libraries."""


def encode_training(training: TrainingRecord) -> dict[str, Any]:
    """The record as a JSON value."""
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
    """The record in a JSON value; `digest` checks and returns each digest.

    Raises TypeError, ValueError or KeyError if it is malformed.
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
