"""Data shards, and the arms that are trained on them and averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from replication.domains import Domain, Judge, digits
from replication.settings import Setting
from replication.shapes import CAPTIONS, STYLES, Pictures, joined, shapes
from replication.work import Work, load
from soupctl.choices import WeightBy

OWN_SEEDS = 100
"""Added to the seed of a base for the runs that start from it, so that their draws differ."""
SHARES = ("1/4", "1/2", "3/4", "5/4", "3/2")
"""Shares of a change of the base, for controls; more than 1 goes beyond the change."""


@dataclass(frozen=True, slots=True)
class Regime:
    """A way to divide data into shards."""

    name: str
    domain: str
    shards: int
    say: str
    """In words, for tables."""
    steps: int = 1
    """The steps of an ingredient, in multiples of the setting's."""
    rates_of: str | None = None
    """The regime whose rates are used; None to choose its own."""
    is_whole: bool = False
    """Whether it has the controls for shrinkage."""

    def parts(self, setting: Setting, seed: int) -> list[Pictures]:
        """The pictures of each shard, of a seed."""
        random = np.random.default_rng(seed + 20_000)
        return _PARTS[self.name.partition("-")[0]](self.shards, setting, random)


def _by_style(count: int, setting: Setting, random: np.random.Generator) -> list[Pictures]:
    # four shards are of unequal sizes, so that their weights differ
    sizes = {4: (1, 2, 4, 9)}.get(count, (1,) * count)
    each = len(STYLES) // count
    return [
        shapes(
            setting.shard_images * size // sum(sizes),
            random,
            styles=tuple(range(number * each, (number + 1) * each)),
        )
        for number, size in enumerate(sizes)
    ]


def _by_colour(count: int, setting: Setting, random: np.random.Generator) -> list[Pictures]:
    whole = shapes(setting.shard_images, random)
    colours = np.array(CAPTIONS)[whole.labels, 1]
    return [whole.where(colours == each) for each in range(count)]


def _noisy(count: int, setting: Setting, random: np.random.Generator) -> list[Pictures]:
    size = setting.shard_images // 6 // count
    return [shapes(size, random, wrong=0.25) for _ in range(count)]


def _by_digit(count: int, _setting: Setting, _random: np.random.Generator) -> list[Pictures]:
    whole = digits()["train"]
    return [whole.where(whole.styles == each) for each in range(count)]


_PARTS: Mapping[str, Callable[..., list[Pictures]]] = {
    "style": _by_style,
    "colour": _by_colour,
    "noisy": _noisy,
    "digits": _by_digit,
}
REGIMES = {
    each.name: each
    for each in (
        Regime(
            "style-4",
            "shapes",
            4,
            "two styles each, shards of 48, 96, 192 and 432 images",
            is_whole=True,
        ),
        Regime(
            "noisy-4",
            "shapes",
            4,
            "32 images each of all styles, a quarter mislabelled",
            2,
            is_whole=True,
        ),
        Regime("style-8", "shapes", 8, "one style each, 96 images", rates_of="style-4"),
        Regime("style-2", "shapes", 2, "four styles each, 384 images", rates_of="style-4"),
        Regime("colour-4", "shapes", 4, "one colour each, 192 images", rates_of="style-4"),
        Regime("digits-5", "digits", 5, "two digits each, about 160 images"),
    )
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates that were chosen."""

    shard: float
    once: float
    """The rate of the paragon with the steps of one ingredient."""
    sum: float
    """The rate of the paragon with the steps of all ingredients."""


class Bench:
    """A regime of one seed: its base, its shards, and what is trained on them."""

    def __init__(
        self, work: Work, setting: Setting, domain: Domain, regime: Regime, seed: int
    ) -> None:
        self.work, self.setting, self.domain = work, setting, domain
        self.regime, self.seed = regime, seed
        self.base = base_of(work, setting, domain, seed)
        key = {
            "regime": regime.name,
            "seed": seed,
            "images": setting.shard_images,
            "shards": regime.shards,
        }
        self.shards = [
            work.data(lambda n=n: regime.parts(setting, seed)[n], **key, part=n)
            for n in range(regime.shards)
        ]
        self.union = work.data(lambda: joined(regime.parts(setting, seed)), **key, part="all")
        self.steps = regime.steps * setting.shard_steps

    def sizes(self) -> list[int]:
        """The number of images in each shard."""
        return [len(list(each.rglob("*.png"))) for each in self.shards]

    def train(self, data: Path, steps: int, rate: float, **options: Any) -> Path:
        """A fine-tune of the base."""
        given = {"base": self.base, "seed": OWN_SEEDS + self.seed, **options}
        return self.work.finetune(
            data=data, steps=steps, lr=rate, batch_size=self.setting.batch, **given
        )

    def specialist(self, number: int, rate: float) -> Path:
        """The ingredient of one shard."""
        return self.train(self.shards[number], self.steps, rate)

    def specialists(self, rate: float) -> list[Path]:
        """The ingredients."""
        return [self.specialist(number, rate) for number in range(self.regime.shards)]

    def paragon(self, times: int, rate: float, **options: Any) -> Path:
        """A fine-tune on all data, with so many times the steps of an ingredient."""
        return self.train(self.union, times * self.steps, rate, **options)


def base_of(work: Work, setting: Setting, domain: Domain, seed: int) -> Path:
    """A base that is trained on broad data; its learning rate decays to zero."""
    data = work.data(
        lambda: domain.broad(seed), broad=domain.name, seed=seed, images=setting.broad_images
    )
    return work.finetune(
        domain.new(work, setting, seed),
        data,
        steps=setting.base_steps,
        lr=setting.base_rate,
        lr_schedule="cosine",
        batch_size=setting.batch,
        seed=seed,
    )


def candidate(bench: Bench, arm: str, rate: float) -> Path:
    """The model of an arm with a rate that is tried; of ingredients, their uniform soup."""
    if arm == "shard":
        return bench.work.soup(bench.specialists(rate))
    return bench.paragon(bench.regime.shards if arm == "sum" else 1, rate)


def arms_of(bench: Bench, rates: Rates, validation: Judge) -> dict[str, list[Path]]:
    """The models of each arm: several for the specialists, and for the ensemble of their scores."""
    work, base, count = bench.work, bench.base, bench.regime.shards
    parts = bench.specialists(rates.shard)
    once, whole = bench.paragon(1, rates.once), bench.paragon(count, rates.sum)
    soup = work.soup(parts)
    found = {"base": [base]}
    found |= {f"specialist {number + 1}": [path] for number, path in enumerate(parts)}
    found |= {
        "uniform soup": [soup],
        "paragon, steps of one": [once],
        "paragon, steps of all": [whole],
        "greedy soup": [work.greedy(parts, scorer(validation, base), validation.domain.name)],
        "ensemble of scores": parts,
    }
    for by in (WeightBy.SAMPLES, WeightBy.SQRT_SAMPLES):
        if len(set(bench.sizes())) > 1:
            found[f"soup by {by.value}"] = [work.soup_by(parts, by.value)]
    for share in map(Fraction, SHARES if bench.regime.is_whole else ()):
        if share < 1:
            found[f"base to paragon, {share}"] = [work.soup([base, whole], [1 - share, share])]
        found[f"mean delta x {share}"] = [work.moved(base, base, soup, share)]
    return found


def scorer(judge: Judge, like: Path) -> Callable[[Any], float]:
    """A function that gives the validation loss of the tensors of a candidate."""
    import torch  # noqa: PLC0415

    from replication import judging  # noqa: PLC0415

    model = load(like)

    def score(arrays: dict[str, Any]) -> float:
        model.load_state_dict({name: torch.from_numpy(each) for name, each in arrays.items()})
        return judging.losses(judging.predictor(model), judge.asked, judge.groups)["loss"]

    return score
