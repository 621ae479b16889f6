"""Random numbers without state: each is a function of the seed, a purpose and a place.

Rule 1: no number depends on earlier ones, on workers or on the number of processes, so a resumed
run uses the numbers that it would have used without the interruption.
Rule 2: they are computed on the CPU by NumPy, so they are the same for every device.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """A NumPy generator for this combination of arguments.

    Philox has a key of 128 bits. PyTorch's CPU generator keeps only 32 bits of a seed, so of some
    ten thousand samples two would get the same noise.
    """
    text = ":".join([str(seed), purpose, *map(str, place)])
    key = np.frombuffer(blake2b(text.encode("utf-8"), digest_size=16).digest(), np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def normal(shape: tuple[int, ...], seed: int, purpose: str, *place: int) -> npt.NDArray[np.float32]:
    """Standard normal numbers [*shape], float32."""
    return generator(seed, purpose, *place).standard_normal(shape, np.float32)


def uniform(seed: int, purpose: str, *place: int) -> float:
    """A uniform number in [0, 1)."""
    return float(generator(seed, purpose, *place).random())


def integer(limit: int, seed: int, purpose: str, *place: int) -> int:
    """A uniform integer in [0, limit)."""
    return int(generator(seed, purpose, *place).integers(limit))


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch visits `count` samples: a permutation of their indices."""
    return generator(seed, "order", epoch).permutation(count)


def sample_index(seed: int, visit: int, count: int) -> int:
    """The index among `count` samples of a visit, which is counted through all epochs."""
    epoch, position = divmod(visit, count)
    return int(permutation(seed, epoch, count)[position])
