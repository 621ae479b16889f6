"""Profiles: the weight of each moment of training in an average, and fits of profiles.

The formulas are those of Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion
Models", 2024 (arXiv 2312.02696), section 3 and appendix C. A profile is a density over the steps of
a run whose integral is 1; the weights after step s are those during (s - 1, s].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import factorial
from typing import Any

import numpy as np

from ...errors import UsageError
from ...frozen import frozen

Array = Any
"""A NumPy array of float64."""

UNIFORM = 12**-0.5
"""The sigma_rel of the plain mean of all steps, where gamma is 0."""
SHORTEST = 1e-3
"""The smallest sigma_rel that is accepted."""
MOST_PIECES = 2**16
"""Most intervals in which a profile is constant; a longer run is divided into so many."""


def gamma_of(sigma_rel: float) -> float:
    """The exponent of the power function whose standard deviation is `sigma_rel` of its end.

    The largest root of sigma^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). Raises UsageError for
    a `sigma_rel` below 0.001 or above that of the plain mean, 0.2886...
    """
    if not SHORTEST <= sigma_rel <= UNIFORM:
        what = f"a sigma_rel of {sigma_rel:.6g} is not between {SHORTEST} and {UNIFORM:.4f}"
        raise UsageError(what, advice="such as 0.05 or 0.10")
    inverse = sigma_rel**-2
    largest = np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max()
    return max(float(largest), 0.0)


@frozen
class PowerProfile:
    """The density (gamma + 1) / end * (t / end)^gamma up to the step `end`."""

    end: float
    gamma: float

    def cumulative(self, times: Array) -> Array:
        """The integral of the density from 0 to each of the times."""
        return np.minimum(np.asarray(times, np.float64) / self.end, 1) ** (self.gamma + 1)


@dataclass(frozen=True, slots=True, eq=False)
class StepProfile:
    """A density that is constant between `edges`, which ascend, and zero outside of them."""

    edges: Array
    masses: Array
    """The integral of the density over each of the intervals."""

    def cumulative(self, times: Array) -> Array:
        """The integral of the density from 0 to each of the times."""
        totals = np.concatenate(([0.0], np.cumsum(self.masses)))
        return np.interp(times, self.edges, totals)


Profile = PowerProfile | StepProfile


def snapshot_profiles(steps: Sequence[int]) -> tuple[StepProfile, ...]:
    """The profiles of snapshots: each stands for the steps since the one before it."""
    edges = np.array([0, *steps], np.float64)
    return tuple(StepProfile(np.array(pair), np.ones(1)) for pair in pairwise(edges))


def decay_profile(updates: int, decay: float) -> StepProfile:
    """The profile of diffusers' EMA (`EMAModel`) after so many updates.

    Update s has the decay min(s / (9 + s), `decay`), and the first one has the decay 0.
    """
    if not decay:
        return StepProfile(np.array([updates - 1.0, updates]), np.ones(1))
    edges = np.unique(np.rint(np.linspace(0, updates, min(updates, MOST_PIECES) + 1)))
    logs = _log_decays(edges, decay)
    # the share of everything before an edge is the product of the decays after it
    shares = np.exp(logs[-1] - logs)
    shares[0] = 0
    return StepProfile(edges, np.diff(shares))


def _log_decays(updates: Array, decay: float) -> Array:
    """The logarithm of the product of the decays from update 2 up to each of the updates."""
    last = float(updates[-1])
    # s / (9 + s) is smaller up to there, and the product of s / (9 + s) is 10! n! / (n + 9)!
    ramp = last if decay == 1 else min(max(1.0, np.floor(9 * decay / (1 - decay))), last)
    inside = np.minimum(updates, ramp)
    logs = np.log(factorial(10)) - sum(np.log(inside + number) for number in range(1, 10))
    return logs + (updates - inside) * np.log(decay)


def inner(first: Profile, second: Profile) -> float:
    """The integral of the product of two densities.

    Of two power functions it is the closed form of appendix C, with the larger end e and its gamma:
    (gamma_1 + 1) (gamma_2 + 1) / (gamma_1 + gamma_2 + 1) / e * (smaller end / e)^gamma.
    """
    if isinstance(first, PowerProfile) and isinstance(second, PowerProfile):
        short, long = sorted((first, second), key=lambda each: each.end)
        factors = (first.gamma + 1) * (second.gamma + 1) / (first.gamma + second.gamma + 1)
        return float(factors / long.end * (short.end / long.end) ** long.gamma)
    if isinstance(first, PowerProfile):
        first, second = second, first
    assert isinstance(first, StepProfile)
    densities = first.masses / np.diff(first.edges)
    return float(densities @ np.diff(second.cumulative(first.edges)))


@frozen
class Fit:
    """The combination of stored profiles that is nearest to a wanted one."""

    coefficients: tuple[float, ...]
    error: float
    """The distance to the wanted profile, as a share of the wanted one's norm (both L2)."""


def fit(stored: Sequence[Profile], wanted: Profile) -> Fit:
    """The least-squares fit of the stored profiles to the wanted one, in float64.

    Solves A x = b, with the inner products of the stored ones in A and those with the wanted one in
    b (algorithm 3 of the paper); of several solutions, as for equal profiles, the shortest.
    """
    products = np.array([[inner(one, other) for other in stored] for one in stored])
    aims = np.array([inner(one, wanted) for one in stored])
    found = np.linalg.lstsq(products, aims, rcond=None)[0]
    norm = inner(wanted, wanted)
    left = norm - 2 * found @ aims + found @ products @ found
    return Fit(tuple(map(float, found)), float(np.sqrt(max(left, 0.0) / norm)))
