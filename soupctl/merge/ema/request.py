"""An average over the time of a training run, as a request for an ordinary soup.

Rule 1: the weight of each snapshot is decided here; the soup is then one exact average, recorded
like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from ...checkpoints.run_folder import RunSnapshot, is_run, run_snapshots
from ...errors import InputError, UsageError
from ...format.dtypes import DType
from ...frozen import frozen
from ...ledger.weights import scaled
from ...workers import ExecutionOptions
from ..average import Request, average
from ..ingredients import Ingredient, require_several
from ..job import ComponentResult
from .profiles import (
    PowerProfile,
    Profile,
    decay_profile,
    fit,
    gamma_of,
    snapshot_profiles,
)

FINEST = 18
"""Decimals of weights that are too fine to be exact; more exceed 2**62."""
SOLVED = 15
"""Decimals of weights that were fitted in float64, which has about as many digits."""


@frozen
class EmaRequest:
    """An average of a run's snapshots to make: the snapshots, their weighting, and the output."""

    inputs: Sequence[str | Path]
    """Snapshots in the order of training, or the folder of one run."""
    output: str | Path
    decay: Fraction | None = None
    """The share of the average that is kept at each snapshot after the first."""
    sigma_rel: float | None = None
    """Instead of `decay`: the width of a power-function profile, relative to the last step."""
    steps: tuple[int, ...] = ()
    """The step of each snapshot; 1, 2, ... by default."""
    stored_sigma_rel: tuple[float, ...] = ()
    """If the inputs are averages themselves: the sigma_rel of all, or of each."""
    round_weights: int | None = None
    """Decimals of the weights; None for exact ones, or as many as fit."""
    dtype: DType | None = None
    component: str | None = None
    variant: str | None = None
    keep_sum: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for options that exclude each other or that are out of bounds."""
        require_several("inputs", self.inputs)
        if (self.decay is None) == (self.sigma_rel is None):
            raise UsageError("an EMA needs either --decay or --sigma-rel")
        if self.decay is not None:
            if not 0 < self.decay < 1:
                raise UsageError(f"a decay of {self.decay} is not between 0 and 1")
            if self.steps or self.stored_sigma_rel:
                what = "--steps and --stored-sigma-rel go with --sigma-rel"
                raise UsageError(what, advice="a decay counts snapshots, not steps")


@frozen
class TimeAverage:
    """The soup that an average over time requests, and facts about its weights."""

    request: Request
    left_out: tuple[str, ...] = ()
    """Snapshots whose weights are zero when rounded."""
    decimals: int | None = None
    """Decimals that the weights were rounded to without being asked; None if they were not."""
    error: float | None = None
    """The error of the fitted profile; see `Fit.error`."""
    fitted: str = ""
    """The inputs of the fit: `snapshots` or `stored averages`; empty for a decay."""


@frozen
class Weighed:
    """The inputs of an average over time with their weights, before these are rounded."""

    paths: tuple[str, ...]
    weights: tuple[Fraction, ...]
    error: float | None = field(default=None)
    fitted: str = field(default="")


def ema(
    request: EmaRequest, *, force: bool = False, execution: ExecutionOptions | None = None
) -> tuple[ComponentResult, ...]:
    """Make the average over time and return the result of each component.

    Raises the errors of `time_average` and `average`.
    """
    return average(time_average(request).request, force=force, execution=execution)


def time_average(asked: EmaRequest) -> TimeAverage:
    """The soup that an average over time requests.

    Raises UsageError for inputs, steps and weights that do not make one, and InputError for a run
    whose training checkpoints cannot be read.
    """
    weighed = _weighed(asked)
    decimals = _decimals(asked, weighed.weights)
    places = asked.round_weights if decimals is None else decimals
    rounded = [
        weight if places is None else Fraction(round(weight, places)) for weight in weighed.weights
    ]
    pairs = list(zip(weighed.paths, rounded, strict=True))
    request = Request(
        ingredients=[Ingredient(path, weight) for path, weight in pairs if weight],
        output=asked.output,
        dtype=asked.dtype,
        component=asked.component,
        variant=asked.variant,
        keep_sum=asked.keep_sum,
    )
    left_out = tuple(path for path, weight in pairs if not weight)
    return TimeAverage(request, left_out, decimals, weighed.error, weighed.fitted)


def _decimals(asked: EmaRequest, weights: Sequence[Fraction]) -> int | None:
    """The decimals that the weights are rounded to without being asked; None for none."""
    if asked.round_weights is not None:
        return None
    if asked.decay is None:
        return SOLVED
    try:
        scaled(weights)
    except UsageError:
        return FINEST
    return None


def _weighed(asked: EmaRequest) -> Weighed:
    inputs = [str(path) for path in asked.inputs]
    if not inputs:
        raise UsageError("no snapshots are given", advice="name at least one checkpoint")
    if len(inputs) == 1 and is_run(Path(inputs[0])):
        return _weighed_run(asked, inputs[0])
    for path in inputs:
        if is_run(Path(path)):
            raise UsageError("is a run among other inputs", path=path, advice="give it alone")
    if asked.decay is not None:
        return Weighed(tuple(inputs), decay_weights(asked.decay, len(inputs)))
    return _fitted(asked, inputs, _profiles(asked, len(inputs)), averages=asked.stored_sigma_rel)


def _weighed_run(asked: EmaRequest, run: str) -> Weighed:
    if asked.steps or asked.stored_sigma_rel:
        what = "is a run, whose steps and profiles are in its own records"
        raise UsageError(what, path=run, advice="do not give them")
    found = run_snapshots(Path(run))
    paths = [str(each.weights) for each in found]
    if asked.decay is not None:
        return Weighed(tuple(paths), decay_weights(asked.decay, len(paths)))
    powers = [power for each in found for power in each.powers]
    if powers:
        profiles = [PowerProfile(each.updates, gamma_of(each.sigma_rel)) for each in powers]
        return _fitted(asked, [str(each.weights) for each in powers], profiles, averages=powers)
    tracks = [each.track for each in found if each.track is not None]
    if len(tracks) < len(found):
        return _fitted(asked, paths, snapshot_profiles(_steps_of(found, run)))
    stored = [decay_profile(each.updates, each.decay) for each in tracks]
    return _fitted(asked, [str(each.weights) for each in tracks], stored, averages=tracks)


def _steps_of(found: Sequence[RunSnapshot], run: str) -> list[int]:
    steps = [each.step for each in found]
    if len(set(steps)) < len(steps):
        raise InputError("has two training checkpoints of one step", path=run)
    return steps


def _profiles(asked: EmaRequest, count: int) -> Sequence[Profile]:
    """The profiles of inputs that are not run."""
    steps = asked.steps or tuple(range(1, count + 1))
    if len(steps) != count:
        raise UsageError(f"--steps gives {len(steps)} steps, but there are {count} inputs")
    if min(steps, default=1) < 1:
        raise UsageError("--steps gives a step before the first")
    if not asked.stored_sigma_rel:
        if any(later <= earlier for earlier, later in pairwise(steps)):
            what = "--steps do not ascend"
            raise UsageError(what, advice="give the snapshots in the order of training")
        return snapshot_profiles(steps)
    if not asked.steps:
        raise UsageError("--stored-sigma-rel needs --steps", advice="the step of each average")
    widths = asked.stored_sigma_rel
    if len(widths) not in (1, count):
        what = f"--stored-sigma-rel gives {len(widths)} values, but there are {count} inputs"
        raise UsageError(what, advice="give one for all, or one for each")
    widths = widths * (count if len(widths) == 1 else 1)
    pairs = zip(steps, widths, strict=True)
    return [PowerProfile(step, gamma_of(width)) for step, width in pairs]


def _fitted(
    asked: EmaRequest, paths: Sequence[str], stored: Sequence[Profile], *, averages: object = ()
) -> Weighed:
    """The inputs with the weights whose profile is nearest to the requested one."""
    assert asked.sigma_rel is not None
    end = max(_end(each) for each in stored)
    found = fit(stored, PowerProfile(end, gamma_of(asked.sigma_rel)))
    weights = tuple(map(Fraction, found.coefficients))
    return Weighed(
        tuple(paths), weights, found.error, "stored averages" if averages else "snapshots"
    )


def _end(profile: Profile) -> float:
    return profile.end if isinstance(profile, PowerProfile) else float(profile.edges[-1])


def decay_weights(decay: Fraction, count: int) -> tuple[Fraction, ...]:
    """The weights of `count` snapshots in an exponential moving average, oldest first.

    With x_0 the first, the average is e_0 = x_0, e_k = decay e_(k-1) + (1 - decay) x_k, as in
    torch.optim.swa_utils.get_ema_avg_fn. So the last has the weight 1 - decay, the one before it
    (1 - decay) decay, and so on; the first has decay^(count - 1).
    """
    powers = [decay**age for age in range(count)]
    return (*powers[-1:], *((1 - decay) * power for power in reversed(powers[:-1])))
