"""Randomness without a state: every draw is a function of the seed, its purpose and its place.

Rule 1: nothing depends on what was drawn before, on workers, or on the number of processes; so a
run that goes on after an interruption draws what it would have drawn.
Rule 2: draws are made on the CPU by NumPy, the same for every device.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """A generator of its own for each combination of arguments.

    Philox takes a key of 128 bits; PyTorch's CPU generator keeps 32 bits of a seed, so that among
    some ten thousand samples two would get the same noise.
    """
    text = ":".join([str(seed), purpose, *map(str, place)])
    key = np.frombuffer(blake2b(text.encode("utf-8"), digest_size=16).digest(), np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def normal(shape: tuple[int, ...], seed: int, purpose: str, *place: int) -> npt.NDArray[np.float32]:
    """Standard normal numbers [*shape]."""
    return generator(seed, purpose, *place).standard_normal(shape, np.float32)


def uniform(seed: int, purpose: str, *place: int) -> float:
    """A number in [0, 1)."""
    return float(generator(seed, purpose, *place).random())


def integer(limit: int, seed: int, purpose: str, *place: int) -> int:
    """A whole number in [0, limit)."""
    return int(generator(seed, purpose, *place).integers(limit))


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """In which order an epoch visits `count` samples: a permutation of their indices."""
    return generator(seed, "order", epoch).permutation(count)


def sample_index(seed: int, visit: int, count: int) -> int:
    """The sample of the visit of that number, counted through all epochs, among `count` samples."""
    epoch, position = divmod(visit, count)
    return int(permutation(seed, epoch, count)[position])
