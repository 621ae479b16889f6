"""The claims of Diffusion Soup as tables of Markdown, by the rules of `tables`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from replication.summaries import figure, percent, table


def found_for(result: Mapping[str, Any], name: str) -> list[Any]:
    """The figures of a part of the study, for each seed that has them."""
    return [seed[name] for seed in result["seeds"] if name in seed]


WAYS = {
    "subtract": "subtracted from the soup",
    "retrained": "retrained without it",
    "tuned away": "paragon, tuned away",
    "negation": "paragon, negated",
}
"""How a shard is removed, in words."""


def change(figures: Mapping[str, Any], way: str, field: str) -> float:
    """The change of a loss in per cent of the base's, for one way of removing a shard."""
    return 100 * (figures[way][field] / figures["base"][field] - 1)


def left_out(result: Mapping[str, Any]) -> list[str]:
    """Soups without a shard: the loss of all test images, and of those that are the shard's."""
    rows = found_for(result, "leave one out")
    shards = [name for name in rows[0] if name.startswith("without")]
    body = [
        (name, figure([percent(row[name], row["base"]) for row in rows], sign=True), "")
        for name in ("soup", "paragon")
    ]
    body += [
        (
            f"{name}: {said}",
            figure([change(row[name], way, "loss") for row in rows], sign=True),
            figure([change(row[name], way, "own") for row in rows], sign=True),
        )
        for name in shards
        for way, said in {**WAYS, "soup": "the whole soup"}.items()
    ]
    equal = all(row[name]["equal"] for row in rows for name in shards)
    said = "is" if equal else "IS NOT"
    lines = table(("model", "test loss, all, %", "test loss, the removed shard, %"), body)
    return [
        *lines,
        f"The subtracted soup {said} the direct average of the others, bit for bit.",
        "",
    ]


def by_name(
    result: Mapping[str, Any], claim: str, fields: Mapping[str, tuple[str, float, int]]
) -> list[str]:
    """A claim whose figures have names; `fields` has heading, factor and decimals of each."""
    rows = found_for(result, claim)
    names = [name for name in rows[0] if isinstance(rows[0][name], dict)]
    body = [
        (
            name,
            *(
                figure([scale * row[name][field] for row in rows if field in row[name]], digits)
                for field, (_, scale, digits) in fields.items()
            ),
        )
        for name in names
    ]
    return table(("model", *(each[0] for each in fields.values())), body)


def by_row(
    result: Mapping[str, Any], claim: str, fields: Mapping[str, tuple[str, float, int]]
) -> list[str]:
    """A claim whose figures are in rows; the first of `fields` tells them apart."""
    rows = found_for(result, claim)
    first = next(iter(fields))
    body = []
    for number, each in enumerate(rows[0]):
        cells = [
            figure([scale * row[number][field] for row in rows], digits)
            for field, (_, scale, digits) in fields.items()
            if field != first
        ]
        body.append((f"{each[first]:g}", *cells))
    return table([each[0] for each in fields.values()], body)


def geometric(result: Mapping[str, Any]) -> list[str]:
    """Energy distances to the geometric mean and to the union."""
    rows = found_for(result, "geometric mean")
    body = []
    for case, found in rows[0].items():
        for name in (each for each in found if isinstance(found[each], dict)):
            cells = [
                figure([row[case][name][kind] for row in rows], 3)
                for kind in ("geometric", "union")
            ]
            body.append((f"{case}: {name}", *cells))
        body.append((f"{case}: floor", figure([row[case]["floor"] for row in rows], 3), ""))
        body.append(
            (f"{case}: between the two", figure([row[case]["between"] for row in rows], 3), "")
        )
    return table(("samples of", "distance to the geometric mean", "distance to the union"), body)


CLAIMS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "leave one out": left_out,
    "memorisation": lambda result: by_name(
        result,
        "memorisation",
        {
            "copies": ("samples that are copies, %", 100, 1),
            "median_distance": ("median distance to the nearest, grey levels", 1, 1),
        },
    ),
    "linearity": lambda result: by_row(
        result,
        "linearity",
        {
            "steps": ("steps", 1, 0),
            "moved": ("way from the base, % of its length", 100, 2),
            "of_prediction": ("error, % of the prediction", 100, 2),
            "of_change": ("error, % of the change", 100, 1),
            "soup": ("loss of the soup", 1, 4),
            "ensemble": ("of the ensemble", 1, 4),
            "ingredient": ("of an ingredient", 1, 4),
        },
    ),
    "style mixing": lambda result: by_row(
        result,
        "style mixing",
        {
            "weight": ("weight of tinted", 1, 2),
            "first": ("seen as framed, %", 100, 1),
            "second": ("seen as tinted, %", 100, 1),
            "attributes": ("attributes right, %", 100, 1),
        },
    ),
    "one by one": lambda result: by_row(
        result, "one by one", {"shards": ("shards in the soup", 1, 0), "loss": ("test loss", 1, 4)}
    ),
    "no common start": lambda result: by_name(
        result,
        "no common start",
        {
            "loss": ("test loss", 1, 4),
            "attributes": ("attributes right, %", 100, 1),
            "distance": ("distance", 1, 1),
        },
    ),
    "timesteps apart": lambda result: by_name(
        result,
        "timesteps apart",
        {
            "loss": ("test loss", 1, 4),
            "attributes": ("attributes right, %", 100, 1),
            "distance": ("distance", 1, 1),
        },
    ),
    "snapshots": lambda result: by_name(
        result,
        "snapshots",
        {
            "loss": ("test loss", 1, 4),
            "attributes": ("attributes right, %", 100, 1),
            "distance": ("distance", 1, 1),
        },
    ),
    "geometric mean": geometric,
}
