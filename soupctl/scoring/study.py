"""Weights that Optuna proposes, made exact."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..choices import SearchSampler
from ..errors import LimitError

if TYPE_CHECKING:
    import optuna

PARTS = 1000
"""A share is a multiple of one part in so many."""

Shares = tuple[Fraction, ...]


def open_study(
    sampler: SearchSampler, seed: int, names: Sequence[str], *, minimize: bool
) -> optuna.Study:
    """A study that proposes a number from 0 to 1 for each name, and first 1 for all.

    Raises LimitError without optuna.
    """
    try:
        import optuna
    except ImportError as error:
        what = f"a search needs {error.name or 'optuna'}, which is not installed"
        raise LimitError(what, advice="pip install 'soupctl[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers: dict[SearchSampler, Any] = {
        SearchSampler.RANDOM: lambda: optuna.samplers.RandomSampler(seed=seed),
        SearchSampler.TPE: lambda: optuna.samplers.TPESampler(seed=seed),
        SearchSampler.CMA_ES: lambda: optuna.samplers.CmaEsSampler(
            seed=seed, warn_independent_sampling=False
        ),
    }
    direction = "minimize" if minimize else "maximize"
    study = optuna.create_study(sampler=samplers[sampler](), direction=direction)
    study.enqueue_trial(dict.fromkeys(names, 1.0))
    return study


def shares_of(numbers: Sequence[float]) -> Shares:
    """The shares of numbers that are not negative in their sum, in thousandths that add up to 1.

    They are rounded down, and what is left goes to the largest remainders, the first of equal ones.
    """
    exact = [Fraction(number) for number in numbers]
    total = sum(exact, Fraction(0))
    if not total:
        exact, total = [Fraction(1)] * len(exact), Fraction(len(exact))
    parts = [number * PARTS / total for number in exact]
    whole = [int(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda n: whole[n] - parts[n])
    for n in order[: PARTS - sum(whole)]:
        whole[n] += 1
    return tuple(Fraction(part, PARTS) for part in whole)
