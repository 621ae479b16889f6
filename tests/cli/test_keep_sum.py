"""Sums are kept on the command line: what is said of them, and which code it ends with."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

F16 = np.float16
NO, USAGE, UNREADABLE, LEDGER, OUTPUT, LIMIT = 1, 2, 3, 5, 6, 7


@pytest.fixture
def ingredients(save):
    """`a.st` to `d.st`, small models whose sums take every form."""
    for number, name in enumerate("abcd"):
        few = np.ones(12, np.float32)
        few[number] = 2.0**-60
        values = np.random.default_rng(number).normal(size=50)
        save(f"{name}.st", {"w": values.astype(F16), "few": few, "ids": np.arange(3)})


@pytest.fixture
def soup(ingredients, soupctl) -> Path:
    """The soup `soup.st` of the first three, with its sum."""
    assert soupctl("avg", "a.st", "b.st", "c.st", "-o", "soup.st", "--keep-sum").code == 0
    return Path("soup.st")


def sum_of(soup: str) -> Path:
    (found,) = Path().glob(f"{soup}.*.sum")
    return found


def test_the_story_of_a_sum_reads_as_expected(ingredients, soupctl, golden):
    lines = []
    for command in (
        "avg a.st b.st c.st -o soup.st --keep-sum -v",
        "avg a.st b.st c.st -o soup.st --keep-sum -n",
        "subtract soup.st b.st -o ac.st -n",
        "subtract soup.st b.st -o ac.st --json",
        "add ac.st d.st@1/3 -o acd.st --no-keep-sum -v",
        "swap soup.st b.st d.st -o soup.st -f -v",
        "inspect SUM",
        "log SUM",
        "has SUM d.st",
        "has SUM b.st",
        "verify SUM",
        "verify soup.st",
        "subtract SUM d.st -o again.st -v",
    ):
        done = soupctl(*(str(sum_of("soup.st")) if w == "SUM" else w for w in command.split()))
        told = "".join(filter(_is_same_anywhere, (done.text + done.message).splitlines(True)))
        lines += [f"$ soupctl {command}", f"{told}-> {done.code}", ""]
    golden("keep-sum", "\n".join(lines))


def _is_same_anywhere(line: str) -> bool:
    """Whether a line tells neither of time nor of disk and memory."""
    return not any(word in line for word in ("read and written in", "free disk", "memory"))


def test_a_kept_sum_changes_a_soup_without_its_remaining_ingredients(soup, soupctl):
    assert soupctl("avg", "a.st", "c.st", "d.st", "-o", "direct.st").code == 0
    shutil.move("a.st", "a.hidden")
    shutil.move("c.st", "c.hidden")
    done = soupctl("swap", "soup.st", "b.st", "d.st", "-o", "out.st", "--json")

    assert (done.code, done.json["components"][0]["from"]) == (0, "sum")
    assert done.json["components"][0]["sum"] == str(sum_of("out.st"))
    digests = {line.split()[0] for line in soupctl("hash", "out.st", "direct.st").text.splitlines()}
    assert len(digests) == 1


REFUSED = {
    "avg SUM a.st -o x.st": UNREADABLE,
    "add soup.st SUM -o x.st": UNREADABLE,
    "swap soup.st SUM d.st -o x.st": UNREADABLE,
    "subtract SUM a.st -o SUM -f": OUTPUT,
    "subtract SUM a.st -o x.st --approximate": LEDGER,
    "avg a.st b.st -o - --keep-sum": USAGE,
    "subtract soup.st a.st -o - --keep-sum": USAGE,
    "avg a.st b.st -o x.st --keep-sum --allow-nonfinite": USAGE,
    "subtract soup.st a.st -o x.st --keep-sum --approximate": USAGE,
    "add d.st a.st --count 3 -o x.st --keep-sum": USAGE,
    "avg far1.st far2.st -o x.st --keep-sum": LIMIT,
    "verify altered.st": NO,
    "subtract altered.st a.st -o x.st": LEDGER,
    "verify short.st": NO,
    "add short.st d.st -o x.st": LEDGER,
    "verify other.st": NO,
    "swap other.st a.st d.st -o other.st -f": LEDGER,
}


def test_an_impossible_use_of_a_kept_sum_is_refused_and_writes_nothing(
    soup, soupctl, save, holds, golden
):
    for number, values in enumerate(([1.7e308], [1.6e308]), 1):
        save(f"far{number}.st", {"w": np.float64(values)})
    raw = sum_of("soup.st").read_bytes()
    soupctl("avg", "a.st", "b.st", "-o", "fewer.st", "--keep-sum")
    for name, data in (
        ("altered.st", raw[:-1] + bytes([raw[-1] ^ 1])),
        ("short.st", raw[:-1]),
        ("other.st", sum_of("fewer.st").read_bytes()),
    ):
        shutil.copy("soup.st", name)
        Path(str(sum_of("soup.st")).replace("soup.st", name)).write_bytes(data)
    before = holds()
    lines = []
    for command, code in REFUSED.items():
        kept = str(sum_of("soup.st"))
        done = soupctl(*(kept if word == "SUM" else word for word in shlex.split(command)))
        said = done.text if code == NO else done.message

        assert (code, before) == (done.code, holds()), command
        assert len(said.splitlines()) == 1, command
        lines += [f"$ soupctl {command}", said]
    golden("refused-keep-sum", "\n".join(lines))


def test_a_sum_is_kept_of_a_stream_that_comes_and_of_none_that_goes(soup, soupctl):
    raw = sum_of("soup.st").read_bytes()
    done = soupctl("subtract", "-", "b.st", "-o", "out.st", stdin=raw)
    assert done.code == 0, done
    assert sum_of("out.st").exists()
    gone = soupctl("subtract", "soup.st", "b.st", "-o", "-")
    assert (gone.code, gone.message) == (0, "")
    Path("streamed.st").write_bytes(gone.out)
    assert not list(Path().glob("streamed.st.*"))
    found = {line.split()[0] for line in soupctl("hash", "out.st", "streamed.st").text.splitlines()}
    assert len(found) == 1
