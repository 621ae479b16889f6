"""The pictures of the studies: what each model draws, and how far each arm gets.

Rule 1: each picture says what its marks mean, which direction is better, and how many seeds it has.
Rule 2: samples are those of the first seed, from the same noise for all models, not chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication import bank_pictures, claim_pictures, point_pictures
from replication.claim_tables import found_for
from replication.regimes import Bench
from replication.settings import setting_of
from replication.shapes import caption_text, drawn
from replication.summaries import half_width, percent

DPI = 110
SHOWN = (0, 7, 13, 22, 26, 35, 39, 46)
"""Captions of which samples are shown."""


def draw_all(result: Mapping[str, Any], folder: Path | None, target: Path) -> Iterator[str]:
    """Draw what there is data for; the names of the pictures."""
    pictures: dict[str, Callable[[], Figure | None]] = {}
    if result["study"] == "dmp":
        pictures |= bank_pictures.pictures_of(result, folder)
    else:
        pictures |= {
            "replication-soup-arms.png": lambda: arms(result),
            "replication-left-out.png": lambda: claim_pictures.left_out(result),
            "replication-linearity.png": lambda: claim_pictures.linearity(result),
            "replication-one-by-one.png": lambda: claim_pictures.one_by_one(result),
        }
        if folder is not None:
            pictures |= {
                "replication-samples.png": lambda: samples(result, folder),
                "replication-memorisation.png": lambda: memorisation(result, folder),
                "replication-styles.png": lambda: styles(result, folder),
                "replication-points.png": lambda: point_pictures.points(
                    result, _study(result, folder)
                ),
            }
    target.mkdir(parents=True, exist_ok=True)
    for name, draw in pictures.items():
        figure = draw()
        if figure is not None:
            figure.savefig(target / name, dpi=DPI, metadata={"Software": None})
            yield name


def _parts(result: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows, one a seed, of each regime."""
    found = {name: found_for(result, name) for name in result["regimes"]}
    return {name: each for name, each in found.items() if each}


def arms(result: Mapping[str, Any]) -> Figure:
    """The change of the test loss of each arm: a dot for each seed, a bar for the mean."""
    parts = _parts(result)
    heights = [len(rows[0]) for rows in parts.values()]
    figure = Figure((9, 1.2 + 0.27 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(parts), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, rows) in zip(grid, parts.items(), strict=True):
        names = [arm for arm in rows[0] if arm != "base"][::-1]
        values = [[percent(row[arm], row["base"]) for row in rows if arm in row] for arm in names]
        _dots(axes, names, values)
        axes.set_title(f"{name} (seeds: {len(rows)})", loc="left", fontsize="medium")
    grid[-1].set_xlabel("test loss against the base's, % (further left is better)")
    return figure


def _dots(axes: Axes, names: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    for place, each in enumerate(values):
        axes.plot(each, [place] * len(each), "o", color="tab:blue", markersize=4, alpha=0.6)
        axes.plot([fmean(each)] * 2, [place - 0.35, place + 0.35], color="black")
        if len(each) > 1:
            half = half_width(each)
            axes.plot([fmean(each) - half, fmean(each) + half], [place] * 2, color="black", lw=0.8)
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.grid(axis="x", color="0.92")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _study(result: Mapping[str, Any], folder: Path) -> Any:
    """The study of a result, which finds everything in its work folder."""
    from replication.soup import SoupStudy  # noqa: PLC0415

    study = SoupStudy(folder, setting_of(result["setting"]))
    study.rates = result["rates"]
    return study


def _strip(axes: Axes, images: np.ndarray, title: str) -> None:
    """Images in a row, or in rows of a table, with a gap between them."""
    gap = np.full((*images.shape[:2], 1, 3), 255, np.uint8)
    axes.imshow(
        np.concatenate(
            [np.concatenate([each, wide], 1) for each, wide in zip(images, gap, strict=True)], 1
        )
    )
    axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize="small")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def samples(result: Mapping[str, Any], folder: Path) -> Figure:
    """Samples of the main arms, a column for each caption."""
    study = _study(result, folder)
    bench: Bench = study.bench("style-4", 0)
    rates, judge = study.rates_of("style-4"), study.judge("shapes")
    parts = bench.specialists(rates.shard)
    models = {"base": bench.base}
    models |= {f"specialist {n}": part for n, part in enumerate(parts, 1)}
    models |= {
        "uniform soup": bench.work.soup(parts),
        "paragon, steps of one": bench.paragon(1, rates.once),
        "paragon, steps of all": bench.paragon(len(parts), rates.sum),
    }
    figure = Figure((9, 0.62 * (len(models) + 2)), layout="constrained")
    grid = figure.subplots(len(models) + 1)
    random = np.random.default_rng(0)
    real = [drawn(label, style, random) for label in SHOWN for style in (0, 3)]
    _strip(grid[0], np.stack(real), "real, in two styles")
    for axes, (name, model) in zip(grid[1:], models.items(), strict=True):
        images = judge.samples(model)
        chosen = [label + turn * judge.domain.classes for label in SHOWN for turn in (0, 1)]
        _strip(axes, images[[each for each in chosen if each < len(images)]], name)
    width = 2 * 9
    grid[-1].set_xticks(
        [width * n + 8 for n in range(len(SHOWN))],
        [caption_text(label).replace(" on ", "\non ").replace("a ", "", 1) for label in SHOWN],
        fontsize=6,
    )
    return figure


def memorisation(result: Mapping[str, Any], folder: Path) -> Figure | None:
    """The share of copies by model, and samples below the planted pictures."""
    from replication.claims import COPIES, copies_asked_for, memory_models, planted  # noqa: PLC0415

    rows = found_for(result, "memorisation")
    if not rows:
        return None
    study = _study(result, folder)
    models = memory_models(study, 0)
    bench: Bench = study.bench("style-8", 0)
    figure = Figure((9, 1.2 + 0.6 * (len(models) + 1)), layout="constrained")
    grid = figure.subplots(len(models) + 1, 2, width_ratios=(1, 3))
    _strip(grid[0, 1], np.repeat(planted(0).images, 4, axis=0), "")
    grid[0, 1].set_title(
        "the four planted pictures, and below them what each model draws for their captions",
        fontsize="small",
    )
    grid[0, 0].set_axis_off()
    grid[0, 0].set_title(
        f"samples that are copies\n(each planted {COPIES} times; seeds: {len(rows)})",
        fontsize="small",
    )
    for (left, right), (name, model) in zip(grid[1:], models.items(), strict=True):
        shares = [100 * row[name]["copies"] for row in rows]
        left.barh([0], [fmean(shares)], color="tab:red", alpha=0.6)
        left.plot(shares, [0] * len(shares), "o", color="black", markersize=2.5)
        left.set_xlim(0, 130)
        left.set_yticks([0], [name.replace("paragon, ", "paragon,\n")], fontsize="small")
        left.text(104, 0, f"{fmean(shares):.0f} %", va="center", fontsize="small")
        left.set_xticks([])
        left.spines[["top", "right", "bottom"]].set_visible(False)
        images = copies_asked_for(bench, model)
        _strip(right, np.concatenate([images[n::4][:4] for n in range(4)]), "")
    return figure


def styles(result: Mapping[str, Any], folder: Path) -> Figure | None:
    """Samples of soups from one style to the other, and what the classifier sees."""
    from replication.claims import MIXED_STYLES, swept  # noqa: PLC0415

    rows = found_for(result, "style mixing")
    if not rows:
        return None
    study = _study(result, folder)
    judge = study.judge("shapes")
    models = swept(study, 0)
    figure = Figure((9, 5.6), layout="constrained")
    upper, lower = figure.subfigures(2, height_ratios=(3, 2))
    grid = upper.subplots(len(models))
    for axes, (weight, model) in zip(grid, models, strict=True):
        images = judge.samples(model)
        chosen = [each + turn * judge.domain.classes for each in SHOWN for turn in (0, 1)]
        title = f"{MIXED_STYLES[0]} {1 - weight} : {MIXED_STYLES[1]} {weight}"
        _strip(axes, images[[each for each in chosen if each < len(images)]], title)
    axes = lower.subplots()
    weights = [each["weight"] for each in rows[0]]
    for field, name in zip(("first", "second"), MIXED_STYLES, strict=True):
        means = [100 * fmean(row[n][field] for row in rows) for n in range(len(weights))]
        axes.plot(weights, means, "o-", label=f"seen as {name}")
    axes.set_xlabel(f"weight of {MIXED_STYLES[1]} in the soup (seeds: {len(rows)})")
    axes.set_ylabel("% of samples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
