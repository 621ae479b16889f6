"""Is a soup's distribution the geometric mean of its ingredients'? One and two dimensions.

Rule 1: a point is an image of one pixel: its coordinates are the red and the green value, and in
one dimension green stays in the middle. So everything is trained and sampled by soupctl's verbs.
Rule 2: distances are energy distances of samples, in units of the pixel range [-1, 1]; that of two
samples of the geometric mean itself is the floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from replication.settings import Setting
from replication.shapes import Pictures
from replication.work import Work

Array = npt.NDArray[np.float64]

MODES: Mapping[str, tuple[Array, ...]] = {
    # rows of share, mean of x and y, standard deviation
    "equal widths": (np.array([[1, -0.35, 0, 0.2]]), np.array([[1, 0.35, 0, 0.2]])),
    "shared mode": (
        np.array([[0.5, -0.5, 0, 0.12], [0.5, 0.0, 0, 0.12]]),
        np.array([[0.5, 0.0, 0, 0.12], [0.5, 0.5, 0, 0.12]]),
    ),
    "shared corner": (
        np.array([[0.5, -0.4, -0.4, 0.15], [0.5, 0.4, -0.4, 0.15]]),
        np.array([[0.5, 0.4, -0.4, 0.15], [0.5, 0.4, 0.4, 0.15]]),
    ),
}
"""The two shards of each case; the last case has two dimensions."""
POINTS = 1000
GRID = 201


def dimensions(case: str) -> int:
    """1 or 2."""
    return 2 if case == "shared corner" else 1


def draw(modes: Array, count: int, random: np.random.Generator, plane: int) -> Array:
    """Points [count, plane] of a mixture."""
    which = random.choice(len(modes), count, p=modes[:, 0])
    points = modes[which, 1:3] + random.normal(size=(count, 2)) * modes[which, 3:]
    return points[:, :plane].clip(-1, 1)


def density(modes: Array, points: Array) -> Array:
    """The density of a mixture at points [N, plane]."""
    shift = points[:, None] - modes[None, :, 1 : 1 + points.shape[1]]
    spread = modes[:, 3]
    each = np.exp(-0.5 * np.square(shift).sum(2) / spread**2) / spread ** points.shape[1]
    return (modes[:, 0] * each).sum(axis=1)


def geometric(
    shards: tuple[Array, ...], count: int, random: np.random.Generator, plane: int
) -> Array:
    """Points of the normalised geometric mean of the shards' densities, drawn on a grid."""
    axis = np.linspace(-1, 1, GRID)
    places = np.stack(np.meshgrid(*[axis] * plane, indexing="ij"), -1).reshape(-1, plane)
    weights = np.prod([density(each, places) for each in shards], axis=0) ** (1 / len(shards))
    chosen = places[random.choice(len(places), count, p=weights / weights.sum())]
    return chosen + random.uniform(-1, 1, chosen.shape) / (GRID - 1)


def energy(one: Array, other: Array) -> float:
    """The energy distance of two samples: 0 if their distributions are equal."""

    def mean(first: Array, second: Array) -> float:
        return float(np.linalg.norm(first[:, None] - second[None], axis=2).mean())

    return 2 * mean(one, other) - mean(one, one) - mean(other, other)


def as_pictures(points: Array) -> Pictures:
    """Points as images of one pixel."""
    full = np.zeros((len(points), 3))
    full[:, : points.shape[1]] = points
    images = ((full + 1) * 127.5).round().astype(np.uint8)[:, None, None]
    nothing = np.zeros(len(points), np.int64)
    return Pictures(images, nothing, nothing)


def as_points(images: npt.NDArray[np.uint8], plane: int) -> Array:
    """The points of images of one pixel."""
    return images.reshape(len(images), 3)[:, :plane] / 127.5 - 1


def models_of(work: Work, setting: Setting, case: str, seed: int) -> dict[str, Any]:
    """The base of a broad distribution, two ingredients, their soup, and the paragon."""
    plane = dimensions(case)
    new = work.new_base(
        seed,
        1,
        in_channels=3,
        out_channels=3,
        sample_size=1,
        patch_size=1,
        num_layers=setting.layers,
        num_attention_heads=2,
        attention_head_dim=setting.width // 2,
    )

    def data(shards: list[Array], number: int) -> Any:
        def pictures() -> Pictures:
            random = np.random.default_rng(40_000 + 10 * seed + number)
            each = POINTS // len(shards)
            return as_pictures(np.concatenate([draw(m, each, random, plane) for m in shards]))

        # the broad distribution depends on the number of dimensions alone
        key = {"case": case} if number else {"plane": plane}
        return work.data(pictures, **key, seed=seed, number=number)

    def tune(base: Any, place: Any, steps: int, rate: float, schedule: str) -> Any:
        # a batch of points costs as much as one of images
        return work.finetune(
            base,
            place,
            steps=steps,
            lr=rate,
            lr_schedule=schedule,
            seed=seed,
            batch_size=2 * setting.batch,
        )

    base_data = data([np.array([[1, 0, 0, 0.5]])], 0)
    base = tune(new, base_data, 2 * setting.point_steps, setting.base_rate, "cosine")
    shards = MODES[case]
    steps = setting.point_steps
    parts = [
        tune(base, data([m], n), steps, setting.base_rate / 2, "cosine")
        for n, m in enumerate(shards, 1)
    ]
    union = tune(base, data(list(shards), 3), steps, setting.base_rate / 2, "cosine")
    return {
        "base": base,
        "first": parts[0],
        "second": parts[1],
        "soup": work.soup(parts),
        "paragon": union,
    }


def compared(work: Work, setting: Setting, seed: int) -> dict[str, Any]:
    """Distances of each model's samples to the geometric mean and to the union of the shards."""
    found: dict[str, Any] = {}
    for case, shards in MODES.items():
        plane, random = dimensions(case), np.random.default_rng(50_000 + seed)
        wanted = geometric(shards, POINTS, random, plane)
        union = np.concatenate([draw(each, POINTS // 2, random, plane) for each in shards])
        found[case] = {
            "floor": energy(wanted, geometric(shards, 3 * setting.samples, random, plane)),
            "between": energy(wanted, union),
        }
        for name, model in models_of(work, setting, case, seed).items():
            points = points_of(work, setting, model, plane)
            found[case][name] = {
                "geometric": energy(points, wanted),
                "union": energy(points, union),
            }
    return found


def points_of(work: Work, setting: Setting, model: Any, plane: int) -> Array:
    """Samples of a model as points."""
    images = work.samples(
        model,
        images=3 * setting.samples,
        steps=2 * setting.sample_steps,
        guidance=1.0,
        classes=(0,),
    )
    return as_points(images, plane)
