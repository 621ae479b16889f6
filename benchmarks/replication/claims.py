"""The claims of Diffusion Soup that need arms of their own.

Rule 1: each is a function of study and seed, and gives the figures of the test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from replication import judging
from replication.regimes import Bench, scorer
from replication.shapes import SIDE, STYLES, Pictures, joined
from replication.work import load
from soupctl import verbs

if TYPE_CHECKING:
    from replication.soup import SoupStudy

PLANTED_CAPTIONS = (0, 13, 26, 39)
COPIES = 24
COPIED = 25.0
"""A sample this near to an item, in grey levels, counts as its copy."""
BESIDE = 24
"""Other images in the shard with the copies."""
COUNTS = (1, 2, 4)
RANGES = ("0:250", "250:500", "500:750", "750:1000")
MIXED_STYLES = ("framed", "tinted")
SWEEP = tuple(Fraction(each, 4) for each in range(5))
TRIALS = 16


def left_out(study: SoupStudy, seed: int) -> dict[str, Any]:
    """Without each shard: soup, subtraction against a new average, negation, further tuning.

    `own` is the loss of the test images in the styles of the shard.
    """
    bench, rates = study.bench("style-4", seed), study.rates_of("style-4")
    work, count = bench.work, bench.regime.shards
    parts = bench.specialists(rates.shard)
    soup, paragon = work.soup(parts), bench.paragon(1, rates.once)
    found: dict[str, Any] = {
        name: study.judge("shapes").losses(model)
        for name, model in (("base", bench.base), ("soup", soup), ("paragon", paragon))
    }
    for number, part in enumerate(parts):
        subtracted = work.without(soup, part)
        others = _others(bench, number)
        models = {
            "subtract": subtracted,
            "negation": work.moved(paragon, bench.base, part, Fraction(-1, count)),
            "tuned away": bench.train(others, bench.steps, rates.once, base=paragon),
            "retrained": bench.train(others, bench.steps, rates.once),
            "base": bench.base,
            "soup": soup,
        }
        direct = work.soup([each for each in parts if each != part])
        found[f"without {number + 1}"] = {
            "equal": digest(subtracted) == digest(direct),
            **{way: _own(study, bench, model, number) for way, model in models.items()},
        }
    return found


def _own(study: SoupStudy, bench: Bench, model: Path, number: int) -> dict[str, Any]:
    losses = study.judge("shapes").losses(model)
    each = len(STYLES) // bench.regime.shards
    own = losses["groups"][number * each : (number + 1) * each]
    return {"loss": losses["loss"], "own": float(np.mean(own))}


def _others(bench: Bench, number: int) -> Path:
    """The data of all shards but one."""

    def pictures() -> Pictures:
        parts = bench.regime.parts(bench.setting, bench.seed)
        return joined([each for n, each in enumerate(parts) if n != number])

    return bench.work.data(
        pictures,
        regime=bench.regime.name,
        shards=bench.regime.shards,
        seed=bench.seed,
        images=bench.setting.shard_images,
        without=number,
    )


def digest(model: Path) -> str:
    """The content digest of a model."""
    ((found,),) = [verbs.content_digests(model)]
    return str(found.digest)


def one_by_one(study: SoupStudy, seed: int) -> list[dict[str, Any]]:
    """The soup of the first shard, of the first two, and so on."""
    bench, rates = study.bench("style-8", seed), study.rates_of("style-8")
    parts = bench.specialists(rates.shard)
    return [
        {"shards": count, **study.judge("shapes").losses(bench.work.soup(parts[:count]))}
        for count in range(1, len(parts) + 1)
    ]


def linearity(study: SoupStudy, seed: int) -> list[dict[str, Any]]:
    """How far the soup's predictions are from the mean of its ingredients', by their length."""
    bench, rates = study.bench("style-2", seed), study.rates_of("style-2")
    judge = study.judge("shapes")

    def measured(steps: int) -> dict[str, Any]:
        parts = [bench.train(shard, steps, rates.shard) for shard in bench.shards]
        soup = bench.work.soup(parts)
        base, whole, *each = (load(path) for path in (bench.base, soup, *parts))
        first = judging.predictions(judging.predictor(base), judge.asked)
        mixed = judging.predictions(judging.predictor(whole), judge.asked)
        mean = judging.predictions(judging.ensemble(each), judge.asked)
        error = float((mixed - mean).norm())
        return {
            "steps": steps,
            "moved": float(np.mean([_moved(base, part) for part in each])),
            "of_prediction": error / float(mean.norm()),
            "of_change": error / float((mean - first).norm()),
            "soup": judge.losses(soup)["loss"],
            "ensemble": judge.losses(*parts)["loss"],
            "ingredient": float(np.mean([judge.losses(part)["loss"] for part in parts])),
        }

    return [
        study.work.figure(
            "linearity",
            {
                **judge.key,
                "base": bench.base,
                "shards": bench.shards,
                "steps": steps,
                "rate": rates.shard,
            },
            lambda steps=steps: measured(steps),
        )
        for steps in study.setting.lengths
    ]


def _moved(base: Any, fine: Any) -> float:
    """The norm of a model's change from its base, relative to the norm of the base."""
    pairs = list(zip(base.parameters(), fine.parameters(), strict=True))
    with torch.no_grad():
        way = sum(float((one - other).square().sum()) for one, other in pairs)
        return (way / sum(float(one.square().sum()) for one, _ in pairs)) ** 0.5


def planted(seed: int) -> Pictures:
    """Four pictures of four blocks of random colours, which are like no shape."""
    random = np.random.default_rng(seed + 30_000)
    blocks = random.integers(0, 256, (len(PLANTED_CAPTIONS), 2, 2, 3), dtype=np.uint8)
    images = blocks.repeat(SIDE // 2, axis=1).repeat(SIDE // 2, axis=2)
    labels = np.array(PLANTED_CAPTIONS)
    return Pictures(images, labels, np.zeros(len(labels), np.int64))


def memory_models(study: SoupStudy, seed: int) -> dict[str, Path]:
    """Models of four shards of one style, of which the first has the planted pictures many times.

    All are trained at a rate and for so many steps that the first memorises them.
    """
    bench, setting = study.bench("style-8", seed), study.setting
    count = COUNTS[-1]

    def with_copies(which: range) -> Pictures:
        parts = bench.regime.parts(setting, seed)
        first = parts[0].where(np.arange(len(parts[0])) < BESIDE)
        kept = [parts[n] if n else first for n in which]
        return joined([*kept, *[planted(seed)] * (COPIES if 0 in which else 0)])

    def tuned(which: range, steps: int) -> Path:
        key = {"seed": seed, "images": setting.shard_images, "copies": COPIES, "beside": BESIDE}
        data = bench.work.data(lambda: with_copies(which), **key, which=list(which))
        return bench.train(data, steps, setting.copying_rate)

    parts = [tuned(range(n, n + 1), setting.copying_steps) for n in range(count)]
    models = {"base": bench.base, "ingredient": parts[0]}
    models |= {f"soup of {n}": bench.work.soup(parts[:n]) for n in COUNTS[1:]}
    models["paragon, steps of all"] = tuned(range(count), count * setting.copying_steps)
    return models


def memorised(study: SoupStudy, seed: int) -> dict[str, Any]:
    """How many samples are copies of pictures that are in one shard many times."""
    bench, found = study.bench("style-8", seed), {}
    for name, model in memory_models(study, seed).items():
        images = copies_asked_for(bench, model)
        distance = judging.nearest(images, planted(seed).images)
        found[name] = {
            "copies": float((distance < COPIED).mean()),
            "median_distance": float(np.median(distance)),
        }
    return found


def copies_asked_for(bench: Bench, model: Path) -> np.ndarray:
    """Samples of the captions of planted pictures, in turn."""
    setting = bench.setting
    return bench.work.samples(
        model,
        images=16 * len(PLANTED_CAPTIONS),
        steps=setting.sample_steps,
        guidance=setting.guidance,
        classes=PLANTED_CAPTIONS,
    )


def styles_mixed(study: SoupStudy, seed: int) -> list[dict[str, Any]]:
    """Soups from one style to another: how often the classifier sees each of them."""
    judge, numbers = study.judge("shapes"), [STYLES.index(each) for each in MIXED_STYLES]
    found = []
    for weight, model in swept(study, seed):
        shares = judge.sampled(model)["style_shares"]
        found.append(
            {
                "weight": float(weight),
                "first": shares[numbers[0]],
                "second": shares[numbers[1]],
                "attributes": judge.sampled(model)["attributes"],
            }
        )
    return found


def swept(study: SoupStudy, seed: int) -> list[tuple[Fraction, Path]]:
    """The weight of the second style, and the soup."""
    bench, rate = study.bench("style-8", seed), study.rates_of("style-8").shard
    one, other = (bench.specialist(STYLES.index(each), rate) for each in MIXED_STYLES)
    return [(each, bench.work.soup([one, other], [1 - each, each])) for each in SWEEP]


def timesteps_apart(study: SoupStudy, seed: int) -> dict[str, Any]:
    """Decouple-then-merge: one ingredient for each range of timesteps, all on all data."""
    bench, rates = study.bench("style-4", seed), study.rates_of("style-4")
    judge = study.judge("shapes")
    parts = [bench.paragon(1, rates.once, timesteps=each) for each in RANGES]
    soup = bench.work.soup(parts)
    return {
        "soup": judge.losses(soup) | judge.sampled(soup),
        "own ranges": [judge.losses(part)["quarters"][n] for n, part in enumerate(parts)],
    }


def snapshots(study: SoupStudy, seed: int) -> dict[str, Any]:
    """The search for weights of snapshots of one run (LCSC), against the last and the mean."""
    bench, rates = study.bench("style-4", seed), study.rates_of("style-4")
    judge, validation = study.judge("shapes"), study.judge("shapes", "validation")
    parts = [bench.paragon(times, rates.sum) for times in (1, 2, 3, 4)]
    found = bench.work.search(parts, scorer(validation, bench.base), TRIALS, "shapes")
    models = {"search": found, "mean": bench.work.soup(parts), "last": parts[-1]}
    return {name: judge.losses(model) | judge.sampled(model) for name, model in models.items()}


def no_common_start(study: SoupStudy, seed: int) -> dict[str, Any]:
    """Soups of two ingredients: of one base, and of bases trained from different weights."""
    rates, judge = study.rates_of("style-2"), study.judge("shapes")
    own, other = study.bench("style-2", seed), study.bench("style-2", seed - 1 if seed else 1)
    parts = [bench.specialist(n, rates.shard) for n, bench in enumerate((own, other))]
    models = {
        "base": own.base,
        "one base": study.work.soup(own.specialists(rates.shard)),
        "two bases": study.work.soup(parts),
    }
    return {name: judge.losses(model) | judge.sampled(model) for name, model in models.items()}


CLAIMS: Mapping[str, Callable[[Any, int], Any]] = {
    "leave one out": left_out,
    "memorisation": memorised,
    "linearity": linearity,
    "style mixing": styles_mixed,
    "one by one": one_by_one,
    "no common start": no_common_start,
    "timesteps apart": timesteps_apart,
    "snapshots": snapshots,
}
