"""`subtract`, `add` and `swap` open each input file once, and parse each ledger once."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keeping import hide
from making import save, save_pipeline, save_shards
from revising import average, revise

from soupctl.ledger import read

WRITING = os.O_WRONLY | os.O_RDWR


class Openings:
    """How often each file is opened for reading, by its real path."""

    def __init__(self) -> None:
        self.counts: Counter[str] | None = None
        # a hook stays until Python ends: there is one, and it counts only while it is asked to
        sys.addaudithook(self._hook)

    def _hook(self, event: str, details: tuple[Any, ...]) -> None:
        if self.counts is None or event != "open" or not isinstance(details[0], str | os.PathLike):
            return
        if not (details[2] & WRITING):
            self.counts[os.path.realpath(details[0])] += 1

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        self.counts = counts = Counter()
        try:
            yield counts
        finally:
            self.counts = None


OPENINGS = Openings()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each ledger's text was parsed."""
    counts: Counter[str] = Counter()
    parse = read.parse_ledger

    def counting(text: str, *rest: Any) -> Any:
        counts[text] += 1
        return parse(text, *rest)

    monkeypatch.setattr(read, "parse_ledger", counting)
    return counts


def save_file(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    save(Path(name), weight=random.normal(0, 1, 20).astype(np.float16), ids=np.arange(3))


def save_sharded(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    shards = [{f"w{number}": random.normal(0, 1, 9).astype(np.float16)} for number in range(2)]
    save_shards(Path(name), "model", *shards)


def save_folder(name: str, seed: int) -> None:
    save_pipeline(Path(name), seed)


KINDS = {"file": (save_file, ".st"), "pipeline": (save_folder, "")}


@pytest.fixture(params=KINDS)
def named(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ingredients a to e, and what turns such a letter into the ingredient's name."""
    monkeypatch.chdir(tmp_path)
    make, suffix = KINDS[request.param]
    for seed, letter in enumerate("abcde"):
        make(letter + suffix, seed)
    return lambda letter: letter + suffix


def inputs_below(folder: Path) -> set[str]:
    """Weights, and the indexes and lists that name them; other files of a folder are copied."""
    every = {path for path in folder.rglob("*.*") if path.is_file()}
    return {
        os.path.realpath(path)
        for path in every
        if path.suffix in (".st", ".safetensors", ".sum") or path.name.endswith(".index.json")
    }


def assert_opened_once(
    change: Callable[[], object], parsed: Counter[str], expected: set[str]
) -> None:
    """The change opens the files `expected`, each once, and parses no ledger twice."""
    inputs = inputs_below(Path.cwd())
    parsed.clear()
    with OPENINGS.counted() as counts:
        change()

    opened = {os.path.relpath(path): counts[path] for path in inputs if counts[path]}
    assert dict.fromkeys(opened, 1) == opened
    assert {path.split(os.sep)[0] for path in opened} == expected
    assert set(parsed.values()) <= {1}
    assert parsed


def sum_beside(soup: str) -> str:
    (found,) = Path().glob(f"{soup}.*.sum")
    return found.name


def test_subtract_by_the_kept_sum(named: Any, parsed: Counter[str]) -> None:
    a, b, c, soup, out = map(named, ("a", "b", "c", "soup", "out"))
    average(soup, a, b, c, keep_sum=True)
    hide(a, c)

    assert_opened_once(
        lambda: revise("subtract", soup, Path(out), removed=[b]),
        parsed,
        {soup, b, sum_beside(soup)},
    )


def test_subtract_by_the_kept_sum_of_an_ingredient_that_moved(
    tmp_path: Path, parsed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, letter in enumerate("abc"):
        save_file(f"{letter}.st", seed)
    average("soup.st", "a.st", "b.st", "c.st", keep_sum=True)
    hide("a.st", "b.st", "c.st")
    Path("hidden", "a.st").unlink()

    assert_opened_once(
        lambda: revise(
            "subtract", "soup.st", Path("out.st"), removed=["b.st"], search=(Path("hidden"),)
        ),
        parsed,
        {"soup.st", "hidden", sum_beside("soup.st")},
    )


def test_subtract_by_recomputation(named: Any, parsed: Counter[str]) -> None:
    a, b, c, soup, out = map(named, ("a", "b", "c", "soup", "out"))
    average(soup, a, b, c)

    assert_opened_once(
        lambda: revise("subtract", soup, Path(out), removed=[b]), parsed, {soup, a, b, c}
    )


def save_moved(save_one: Callable[[str, int], None], suffix: str) -> None:
    """A soup of four ingredients, now in the folder `moved` under names that tell nothing."""
    for seed, letter in enumerate("abcd"):
        save_one(letter + suffix, seed)
    average("soup.st", *(letter + suffix for letter in "abcd"))
    Path("moved").mkdir()
    for number, letter in enumerate("dcba"):
        Path(letter + suffix).rename(Path("moved", f"{number}{suffix}"))


def test_subtract_by_recomputation_with_ingredients_found_by_search(
    tmp_path: Path, parsed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_moved(save_file, ".st")
    removed, places = ["moved/2.st"], (Path("moved"),)

    assert_opened_once(
        lambda: revise("subtract", "soup.st", Path("out.st"), removed=removed, search=places),
        parsed,
        {"soup.st", "moved"},
    )


def test_a_search_opens_each_index_once_and_each_shard_also_as_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_moved(save_sharded, "")
    with OPENINGS.counted() as counts:
        revise("subtract", "soup.st", Path("out.st"), removed=["moved/2"], search=(Path("moved"),))

    moved = {path: count for path, count in counts.items() if f"{os.sep}moved{os.sep}" in path}
    assert {count for path, count in moved.items() if path.endswith(".json")} == {1}
    assert {count for path, count in moved.items() if not path.endswith(".json")} <= {1, 2}


def test_add_by_the_kept_sum(named: Any, parsed: Counter[str]) -> None:
    a, b, c, soup, out = map(named, ("a", "b", "c", "soup", "out"))
    average(soup, a, b, keep_sum=True)
    hide(a, b)

    assert_opened_once(
        lambda: revise("add", soup, Path(out), added=[c]), parsed, {soup, c, sum_beside(soup)}
    )


def test_add_a_soup_with_a_sum_of_its_own(named: Any, parsed: Counter[str]) -> None:
    a, b, c, d, soup, other, out = map(named, ("a", "b", "c", "d", "soup", "other", "out"))
    average(soup, a, b, keep_sum=True)
    average(other, c, d, keep_sum=True)
    hide(a, b, c, d)

    assert_opened_once(
        lambda: revise("add", soup, Path(out), added=[other]),
        parsed,
        {soup, other, sum_beside(soup), sum_beside(other)},
    )


def test_add_a_soup_by_recomputation(named: Any, parsed: Counter[str]) -> None:
    a, b, c, d, soup, other, out = map(named, ("a", "b", "c", "d", "soup", "other", "out"))
    average(soup, a, b)
    average(other, c, d)

    assert_opened_once(
        lambda: revise("add", soup, Path(out), added=[other]), parsed, {soup, other, a, b, c, d}
    )


def test_swap_by_the_kept_sum(named: Any, parsed: Counter[str]) -> None:
    a, b, c, soup, out = map(named, ("a", "b", "c", "soup", "out"))
    average(soup, a, b, keep_sum=True)
    hide(a)

    assert_opened_once(
        lambda: revise("swap", soup, Path(out), added=[c], removed=[b]),
        parsed,
        {soup, b, c, sum_beside(soup)},
    )


def test_swap_by_recomputation(named: Any, parsed: Counter[str]) -> None:
    a, b, c, soup, out = map(named, ("a", "b", "c", "soup", "out"))
    average(soup, a, b)

    assert_opened_once(
        lambda: revise("swap", soup, Path(out), added=[c], removed=[b]), parsed, {soup, a, b, c}
    )


def test_subtract_from_the_rounded_soup(named: Any, parsed: Counter[str]) -> None:
    a, b, c, soup, out = map(named, ("a", "b", "c", "soup", "out"))
    average(soup, a, b, c)
    hide(a, c)

    assert_opened_once(
        lambda: revise("subtract", soup, Path(out), removed=[b], approximate=True),
        parsed,
        {soup, b},
    )


def test_a_sum_that_is_changed_itself(named: Any, parsed: Counter[str]) -> None:
    a, b, soup, out = map(named, ("a", "b", "soup", "out"))
    if not soup.endswith(".st"):
        pytest.skip("a folder of sums is named by its files")
    average(soup, a, b, keep_sum=True)
    hide(a)

    assert_opened_once(
        lambda: revise("subtract", sum_beside(soup), Path(out), removed=[b]),
        parsed,
        {sum_beside(soup), b},
    )


def test_a_second_opening_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.st").touch()

    with OPENINGS.counted() as counts:
        for _ in range(2):
            os.close(os.open("a.st", os.O_RDONLY))

    assert counts[os.path.realpath("a.st")] == 2
