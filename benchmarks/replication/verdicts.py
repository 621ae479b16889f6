"""What the study of soups says about each claim, from the differences between arms, seed by seed.

Rule 1: a claim holds here if the 95 % interval of its difference lies on the side that it names;
if the interval lies on the other side, the opposite holds; otherwise, the seeds cannot tell.
Rule 2: losses are compared on the same images, timesteps and noise, so that of two arms only the
difference is random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from replication.claim_tables import change
from replication.summaries import figure, half_width, percent, table

Seed = Mapping[str, Any]

PARAGONS = {"steps of one": "paragon, steps of one", "steps of all": "paragon, steps of all"}


@dataclass(frozen=True, slots=True)
class SoupClaim:
    """A claim with the difference that decides it."""

    say: str
    parts: tuple[str, ...]
    """The parts of the study that it needs."""
    difference: Callable[[Seed], float | None]
    """None where an arm is lacking, such as weights by size of equal shards."""
    unit: str
    holds_below: bool = True
    """Whether it holds if the difference is below 0, not above."""
    digits: int = 2


def claims_of(result: Mapping[str, Any]) -> Iterator[SoupClaim]:
    """All claims, in the order of the table."""
    for name in result["regimes"]:
        yield SoupClaim(
            f"{name}: the soup is better than its best ingredient", (name,), _best(name), "% loss"
        )
    for name in result["regimes"]:
        for said, paragon in PARAGONS.items():
            yield SoupClaim(
                f"{name}: the soup is better than the paragon with the {said}",
                (name,),
                _between(name, "uniform soup", paragon),
                "% loss",
            )
    for name in result["regimes"]:
        yield SoupClaim(
            f"{name}: its samples show more right attributes than those of the better paragon",
            (name,),
            _attributes(name),
            "points",
            holds_below=False,
            digits=1,
        )
    for name in ("style-4", "noisy-4"):
        for other in ("base to paragon, 1/2", "mean delta x 1/2", "mean delta x 5/4"):
            yield SoupClaim(
                f"{name}: the soup is better than the control *{other}*",
                (name,),
                _between(name, "uniform soup", other),
                "% loss",
            )
    for arm in ("greedy soup", "soup by samples", "soup by sqrt-samples", "ensemble of scores"):
        yield SoupClaim(
            f"style-4: the {arm} is better than the uniform soup",
            ("style-4",),
            _between("style-4", arm, "uniform soup"),
            "% loss",
        )
    yield from CLAIMS_OF_ONE_PART
    for case in ("equal widths", "shared mode", "shared corner"):
        yield SoupClaim(
            f"{case}: the soup's samples are nearer to the geometric mean than the paragon's",
            ("geometric mean",),
            lambda seed, case=case: (
                seed["geometric mean"][case]["soup"]["geometric"]
                - seed["geometric mean"][case]["paragon"]["geometric"]
            ),
            "",
            digits=3,
        )


def _between(part: str, arm: str, other: str) -> Callable[[Seed], float | None]:
    """The difference of two losses, in per cent of the base's."""

    def difference(seed: Seed) -> float | None:
        row = seed[part]
        if arm not in row or other not in row:
            return None
        return percent(row[arm], row["base"]) - percent(row[other], row["base"])

    return difference


def _best(part: str) -> Callable[[Seed], float | None]:
    def difference(seed: Seed) -> float | None:
        row = seed[part]
        names = [each for each in row if each.startswith("specialist")]
        best = min(names, key=lambda each: row[each]["loss"])
        return _between(part, "uniform soup", best)(seed)

    return difference


def _attributes(part: str) -> Callable[[Seed], float]:
    def difference(seed: Seed) -> float:
        row = seed[part]
        best = max(row[each]["attributes"] for each in PARAGONS.values())
        return 100 * (row["uniform soup"]["attributes"] - best)

    return difference


def _shards(seed: Seed, way: str, field: str, other: str | None = None) -> float:
    """The mean over the removed shards of a change against the base, or against another way."""
    part = seed["leave one out"]
    rows = [part[name] for name in part if name.startswith("without")]
    return fmean(
        change(row, way, field) - (change(row, other, field) if other else 0) for row in rows
    )


def _relative(part: str, arm: str, other: str) -> Callable[[Seed], float]:
    return lambda seed: 100 * (seed[part][arm]["loss"] / seed[part][other]["loss"] - 1)


def _copies(arm: str, other: str) -> Callable[[Seed], float]:
    return lambda seed: (
        100 * (seed["memorisation"][arm]["copies"] - seed["memorisation"][other]["copies"])
    )


LEFT = ("leave one out",)
CLAIMS_OF_ONE_PART = (
    SoupClaim(
        "without a shard, the soup is worse on the shard's own styles",
        LEFT,
        lambda seed: _shards(seed, "subtract", "own", "soup"),
        "% loss",
        holds_below=False,
    ),
    SoupClaim(
        "without a shard, the soup is worse on all styles together",
        LEFT,
        lambda seed: _shards(seed, "subtract", "loss", "soup"),
        "% loss",
        holds_below=False,
    ),
    *(
        SoupClaim(
            f"{say}, its styles are no better than the base's",
            LEFT,
            lambda seed, way=way: _shards(seed, way, "own"),
            "% loss",
            holds_below=False,
        )
        for way, say in (
            ("subtract", "with a shard subtracted from the soup"),
            ("negation", "with its change negated in the paragon"),
            ("tuned away", "with the paragon tuned on the other shards"),
            ("retrained", "with the paragon retrained without it"),
        )
    ),
    SoupClaim(
        "a soup of ingredients of two bases is worse than a base",
        ("no common start",),
        _relative("no common start", "two bases", "base"),
        "% loss",
        holds_below=False,
    ),
    SoupClaim(
        "a soup of four shards copies less than the ingredient with the copies",
        ("memorisation",),
        _copies("soup of 4", "ingredient"),
        "points",
        digits=1,
    ),
    SoupClaim(
        "a soup of four shards copies less than the paragon with the steps of all",
        ("memorisation",),
        _copies("soup of 4", "paragon, steps of all"),
        "points",
        digits=1,
    ),
    SoupClaim(
        "the search over snapshots (LCSC) is better than the last",
        ("snapshots",),
        _relative("snapshots", "search", "last"),
        "% loss",
    ),
    SoupClaim(
        "the mean of the snapshots is better than the last",
        ("snapshots",),
        _relative("snapshots", "mean", "last"),
        "% loss",
    ),
    SoupClaim(
        "ingredients of ranges of timesteps (DeMe) beat the paragon with the steps of one",
        ("timesteps apart", "style-4"),
        lambda seed: (
            100
            * (
                seed["timesteps apart"]["soup"]["loss"]
                / seed["style-4"]["paragon, steps of one"]["loss"]
                - 1
            )
        ),
        "% loss",
    ),
)


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """The lines of a table of all claims of which a seed is known."""
    body = []
    for each in claims_of(result):
        rows = [seed for seed in result["seeds"] if all(part in seed for part in each.parts)]
        found = [value for row in rows if (value := each.difference(row)) is not None]
        if found:
            shown = f"{figure(found, each.digits, sign=True)} {each.unit}".strip()
            body.append((each.say, shown, verdict(found, holds_below=each.holds_below)))
    return table(("claim", "difference", "holds here"), body)


def verdict(found: list[float], *, holds_below: bool) -> str:
    """In words, whether the differences are on the side that a claim names."""
    if len(found) < 2:
        return "one seed"
    mean, half = fmean(found), half_width(found)
    if abs(mean) <= half:
        return "cannot be told"
    return "yes" if (mean < 0) == holds_below else "no, the opposite"
