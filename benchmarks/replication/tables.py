"""The results of the studies as tables of Markdown.

Rule 1: a figure is the mean over the seeds with its 95 % interval by Student's t and the number of
seeds; of a single seed, it is that alone. Changes are against the base of the same seed.
Rule 2: tables have every arm, and every rate that was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from replication import bank_tables
from replication.claim_tables import CLAIMS, found_for
from replication.summaries import figure, percent, table
from replication.verdicts import verdicts

Rows = Sequence[Mapping[str, Any]]


def compared(rows: Rows, floor: float) -> list[str]:
    """The arms of a regime or a case, each row one seed."""
    head = ("arm", "test loss, % of the base's", "attributes right, %", "distance", "styles")
    body = []
    for name in rows[0]:
        found = [(row[name], row["base"]) for row in rows if name in row]
        arms = [arm for arm, _ in found]
        loss = figure([percent(*pair) for pair in found], sign=True)
        cells = [
            figure([scale * arm[field] for arm in arms if field in arm], digits)
            for field, scale, digits in (
                ("attributes", 100, 1),
                ("distance", 1, 1),
                ("styles", 1, 1),
            )
        ]
        body.append((name, loss if name != "base" else "0", *cells))
    body.append(("other real images (floor)", "", "", f"{floor:.1f}", ""))
    return table(head, body)


def rates(result: Mapping[str, Any]) -> list[str]:
    """Every rate that was tried, with its loss on the validation images."""
    lines = []
    for name, tried in result["rates_tried"].items():
        least = {
            arm: min(row["validation"] for row in tried if row["arm"] == arm)
            for arm in {row["arm"] for row in tried}
        }
        body = [
            (
                row["arm"],
                f"{row['rate']:g}",
                f"{row['validation']:.5f}",
                "chosen" if row["validation"] == least[row["arm"]] else "",
            )
            for row in tried
        ]
        lines += [f"Rates tried, {name}:", ""]
        lines += table(("arm", "learning rate", "validation loss", ""), body)
    return lines


PICTURES: Mapping[str, Sequence[tuple[str, str]]] = {
    "style-4": (
        ("samples", "Samples of the base, of each specialist, of the soup and of the paragons"),
    ),
    "leave one out": (
        (
            "left-out",
            "Loss without a shard, of its own styles and of all, for each way to remove it",
        ),
    ),
    "memorisation": (
        ("memorisation", "Planted pictures, and what each model draws for their captions"),
    ),
    "linearity": (
        ("linearity", "Predictions and losses of soup and ingredients, by the length of training"),
    ),
    "style mixing": (
        ("styles", "Samples of soups from one style to another, and what the classifier sees"),
    ),
    "one by one": (("one-by-one", "Loss of soups of more and more shards, and copies in samples"),),
    "geometric mean": (("points", "Points that soup and paragon draw, and the geometric mean"),),
}
"""The name and the text of the pictures of a part, which `pictures` draws."""


def shown(part: str) -> list[str]:
    """The lines that show the pictures of a part."""
    return [
        line
        for name, text in PICTURES.get(part, ())
        for line in (f"![{text}](images/replication-{name}.png)", "")
    ]


def soup(result: Mapping[str, Any]) -> list[str]:
    """All tables of the study of soups."""
    lines = [f"### Soups: {_said(result)}", "", "#### The claims", "", *verdicts(result)]
    lines += ["![Test loss of each arm, by seed](images/replication-soup-arms.png)", ""]
    for name, regime in result["regimes"].items():
        rows = found_for(result, name)
        if rows:
            lines += [f"#### {name}: {regime['say']}", ""]
            lines += [*compared(rows, result["floor"][regime["domain"]]), *shown(name)]
    for name, write in CLAIMS.items():
        if found_for(result, name):
            lines += [f"#### {name.capitalize()}", "", *write(result), *shown(name)]
    return lines + rates(result)


def dmp(result: Mapping[str, Any]) -> list[str]:
    """All tables of the study of banks."""
    return [f"### Prompt banks: {_said(result)}", "", *bank_tables.written(result), *rates(result)]


def _said(result: Mapping[str, Any]) -> str:
    begun = len(result["seeds"])
    count = f"{result['complete_seeds']} of {result['setting']['seeds']} seeds complete"
    more = f", {begun} begun" if begun > result["complete_seeds"] else ""
    cost = f"{result['cost']['cpu_minutes']:.0f} minutes of CPU"
    runs = f"{len(result['runs'])} runs, {cost}"
    return f"{count}{more}, {runs}, commit {result['versions']['commit']}"


TABLES: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {"soup": soup, "dmp": dmp}
