"""Sums kept of soups with LoHas, LoKrs and full differences, held to fractions at each change."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deltas import apply, rounded
from keeping import hide, scale_of, sum_of, values_of
from making import contents, save
from revising import revise, verified

from soupctl.format.dtypes import DType
from soupctl.verbs import Level

ROWS, COLUMNS, RANK = 4, 6, 2
NAME = "a.b.weight"
Exact = list[list[Fraction]]


def drawn(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Factors of very many digits, of usual sizes."""
    return random.normal(0, 0.2, shape).astype(np.float32)


def exact(array: np.ndarray) -> Exact:
    return [[Fraction(float(value)) for value in row] for row in array]


def times(one: Exact, other: Exact) -> Exact:
    return [
        [
            sum(a * b for a, b in zip(row, column, strict=True))
            for column in zip(*other, strict=True)
        ]
        for row in one
    ]


def loha(random: np.random.Generator) -> tuple[dict[str, np.ndarray], Exact]:
    parts = {
        f"hada_w{number}_{side}": drawn(random, *shape)
        for number in (1, 2)
        for side, shape in (("a", (ROWS, RANK)), ("b", (RANK, COLUMNS)))
    }
    one, two = (times(exact(parts[f"hada_w{n}_a"]), exact(parts[f"hada_w{n}_b"])) for n in (1, 2))
    both = zip(one, two, strict=True)
    return parts, [[a * b for a, b in zip(*rows, strict=True)] for rows in both]


def lokr(random: np.random.Generator) -> tuple[dict[str, np.ndarray], Exact]:
    parts = {"lokr_w1": drawn(random, 2, 3)}
    parts |= {"lokr_w2_a": drawn(random, 2, RANK), "lokr_w2_b": drawn(random, RANK, 2)}
    outer, inner = (
        exact(parts["lokr_w1"]),
        times(exact(parts["lokr_w2_a"]), exact(parts["lokr_w2_b"])),
    )
    product = [
        [outer[r // 2][c // 2] * inner[r % 2][c % 2] for c in range(COLUMNS)] for r in range(ROWS)
    ]
    return parts, product


def full(random: np.random.Generator) -> tuple[dict[str, np.ndarray], Exact]:
    value = drawn(random, ROWS, COLUMNS)
    return {"diff": value, "diff_b": drawn(random, ROWS)}, exact(value)


FAMILIES = {"loha": loha, "lokr": lokr, "full": full}
ALPHA = {"loha": Fraction(3, 2), "lokr": Fraction(3, 2), "full": Fraction(1)}
"""The scale of each adapter: alpha over rank."""


@pytest.fixture(autouse=True)
def _in_a_folder_with_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved() -> tuple[Exact, dict[str, Exact]]:
    """The base and the updates of the adapters in the working folder, as fractions."""
    random = np.random.default_rng(11)
    base = random.normal(0, 1, (ROWS, COLUMNS)).astype(np.float16)
    save(Path("base.st"), **{NAME: base, "a.b.bias": random.normal(0, 1, ROWS).astype(np.float16)})
    updates = {}
    for name, build in FAMILIES.items():
        parts, update = build(random)
        alpha = {} if name == "full" else {"a.b.alpha": np.float32(3)}
        save(Path(f"{name}.st"), **{f"a.b.{key}": part for key, part in parts.items()}, **alpha)
        updates[name] = [[ALPHA[name] * value for value in row] for row in update]
    return exact(base), updates


def assert_holds(
    soup: str, base: Exact, updates: dict[str, Exact], scales: dict[str, Fraction]
) -> None:
    """The soup is the exact sum rounded once, and its kept sum is that sum."""
    total = [
        base[r][c] + sum(scale * updates[name][r][c] for name, scale in scales.items())
        for r in range(ROWS)
        for c in range(COLUMNS)
    ]
    assert rounded(total, DType.F16) == contents(Path(soup))[NAME][2]
    kept = values_of(sum_of(Path(soup)), NAME)
    assert [scale_of(Path(soup)) * value for value in total] == kept


def test_sums_with_adapters_of_every_family_are_exact_through_every_change():
    base, updates = saved()
    half, third = Fraction(1, 2), Fraction(-1, 3)
    apply("base.st", ("loha.st", half), ("lokr.st", third), output="two.st", keep_sum=True)
    assert_holds("two.st", base, updates, {"loha": half, "lokr": third})
    hide("base.st", "loha.st")

    # neither the base nor an adapter that stays is read
    revise("add", "two.st", Path("three.st"), [("full.st", Fraction(2))])
    assert_holds("three.st", base, updates, {"loha": half, "lokr": third, "full": Fraction(2)})
    revise("subtract", "three.st", Path("less.st"), (), ["lokr.st"])
    assert_holds("less.st", base, updates, {"loha": half, "full": Fraction(2)})
    revise("swap", "less.st", Path("other.st"), [("lokr.st", half)], ["full.st"])
    assert_holds("other.st", base, updates, {"loha": half, "lokr": half})

    for name in ("base.st", "loha.st"):
        Path("hidden", name).rename(name)
    apply("base.st", ("lokr.st", half), ("loha.st", half), output="again.st", keep_sum=True)
    assert contents(Path("again.st")) == contents(Path("other.st"))
    assert contents(sum_of(Path("again.st"))) == contents(sum_of(Path("other.st")))
    assert Level.REBUILD is verified(Path("other.st")).level


@pytest.mark.parametrize("family", FAMILIES)
def test_a_soup_with_a_sum_has_the_bytes_of_one_without(family):
    base, updates = saved()
    given = (f"{family}.st", Fraction(7, 10))
    apply("base.st", given, output="kept.st", keep_sum=True)
    apply("base.st", given, output="plain.st")

    assert_holds("kept.st", base, updates, {family: Fraction(7, 10)})
    assert contents(Path("kept.st")) == contents(Path("plain.st"))
