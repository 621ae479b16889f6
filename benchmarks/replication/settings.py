"""How large the studies are: a minute, under an hour on two cores, or more on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class BankSetting:
    """Sizes of the study of banks that differ from those of the study of soups."""

    width: int
    """Width of the DiT; that of the narrow base is half of it."""
    layers: int
    batch: int
    base_steps: int
    """Steps of a base, whose learning rate decays to zero."""
    base_rate: float
    steps: int
    """Steps of an arm."""
    rates: tuple[float, ...]
    """Learning rates of prompts whose weights sum to one; full fine-tuning has a tenth of them."""
    images: int
    """Training images: so few that a base soon learns all that carries over to other images."""
    many_images: int
    test: int
    draws: int
    """Pairs of timestep and noise for each test image and tenth of the timesteps."""
    samples: int
    sample_steps: int
    classifier_images: int
    classifier_steps: int


@dataclass(frozen=True, slots=True)
class Setting:
    """The size of a study."""

    seeds: int
    width: int
    """Width of the DiT."""
    layers: int
    batch: int
    base_steps: int
    """Steps of a base, whose learning rate decays to zero."""
    base_rate: float
    shard_steps: int
    """Steps of an ingredient."""
    rates: tuple[float, ...]
    """Learning rates of ingredients and paragons, of which validation images choose one."""
    copying_steps: int
    """Steps of an ingredient that memorises pictures, and of those that are averaged with it."""
    copying_rate: float
    point_steps: int
    """Steps of an ingredient whose data are points; its base has twice as many."""
    broad_images: int
    shard_images: int
    """Images in all shards of a regime together."""
    test: int
    draws: int
    """Pairs of timestep and noise for each test image and quarter of the timesteps."""
    samples: int
    sample_steps: int
    guidance: float
    classifier_images: int
    classifier_steps: int
    lengths: tuple[int, ...]
    """Steps of the ingredients whose soups show where linearity ends."""
    banks: BankSetting
    """Sizes of the study of banks, in place of those above with the same names."""


SMALL = Setting(
    seeds=5,
    width=64,
    layers=2,
    batch=16,
    base_steps=1500,
    base_rate=2e-3,
    shard_steps=80,
    rates=(1e-4, 3e-4, 1e-3, 3e-3),
    copying_steps=350,
    copying_rate=3e-3,
    point_steps=150,
    broad_images=1536,
    shard_images=768,
    test=384,
    draws=1,
    samples=192,
    sample_steps=15,
    guidance=2.0,
    classifier_images=3072,
    classifier_steps=1500,
    lengths=(20, 80, 320),
    banks=BankSetting(
        width=32,
        layers=3,
        batch=32,
        base_steps=1200,
        base_rate=5e-3,
        steps=250,
        rates=(5e-3, 2.5e-2, 1.25e-1),
        images=96,
        many_images=1440,
        test=1152,
        draws=2,
        samples=480,
        sample_steps=20,
        classifier_images=6000,
        classifier_steps=2500,
    ),
)
SETTINGS = {
    "small": SMALL,
    "gpu": replace(
        SMALL,
        width=192,
        layers=6,
        batch=128,
        base_steps=40_000,
        base_rate=5e-4,
        shard_steps=2000,
        rates=(3e-5, 1e-4, 3e-4, 1e-3),
        copying_steps=4000,
        copying_rate=1e-3,
        point_steps=4000,
        broad_images=20_000,
        test=2304,
        draws=8,
        samples=2304,
        sample_steps=50,
        classifier_images=20_000,
        classifier_steps=10_000,
        lengths=(100, 300, 1000, 3000, 10_000),
        banks=replace(
            SMALL.banks,
            width=192,
            layers=6,
            batch=256,
            base_steps=40_000,
            base_rate=5e-4,
            steps=10_000,
            images=4_800,
            many_images=48_000,
            test=4608,
            samples=4800,
            sample_steps=50,
            classifier_images=20_000,
            classifier_steps=10_000,
        ),
    ),
    "smoke": replace(
        SMALL,
        seeds=2,
        width=8,
        layers=1,
        batch=2,
        base_steps=2,
        shard_steps=1,
        rates=(1e-3,),
        copying_steps=1,
        point_steps=1,
        broad_images=48,
        shard_images=64,
        test=48,
        draws=1,
        samples=48,
        sample_steps=1,
        classifier_images=48,
        classifier_steps=1,
        lengths=(1, 2),
        banks=replace(
            SMALL.banks,
            width=8,
            layers=2,
            batch=2,
            base_steps=2,
            steps=1,
            rates=(1e-3,),
            images=48,
            many_images=48,
            test=48,
            draws=1,
            samples=48,
            sample_steps=1,
            classifier_images=48,
            classifier_steps=1,
        ),
    ),
}


def setting_of(fields: Mapping[str, Any]) -> Setting:
    """The setting that a result was made with, from its fields as JSON has them."""

    def told(given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: tuple(each) if isinstance(each, list) else each for name, each in given.items()
        }

    return Setting(**{**told(fields), "banks": BankSetting(**told(fields["banks"]))})
