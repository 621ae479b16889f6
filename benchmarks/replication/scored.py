"""The score of a candidate, as `soupctl greedy` and `soupctl search` ask for it by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Score = Callable[[dict[str, Any]], float]

NAME = f"{__name__}:score"
"""What `--scorer` is given."""
_chosen: list[Score] = []


@contextmanager
def by(function: Score) -> Iterator[None]:
    """Score by this function, in processes that are forked meanwhile."""
    _chosen.append(function)
    try:
        yield
    finally:
        _chosen.pop()


def score(arrays: dict[str, Any]) -> float:
    """The score of the tensors of a candidate."""
    return _chosen[-1](arrays)
