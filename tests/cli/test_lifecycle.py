"""Soups change on the command line: what is said, what is written, and which code it ends with."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

F16 = np.float16
LEDGER, USAGE, NO = 5, 2, 1


def tensors(seed: str) -> dict[str, np.ndarray]:
    """A small model of its own."""
    values = np.random.default_rng(ord(seed)).normal(size=50)
    return {"w": values.astype(F16), "ids": np.arange(3)}


@pytest.fixture
def soups(soupctl, save):
    """`a.st`, `b.st` and `c.st`, and their soup `soup.st`."""
    for name in "abc":
        save(f"{name}.st", tensors(name))
    assert soupctl("avg", "a.st", "b.st", "c.st", "-o", "soup.st").code == 0


@pytest.fixture
def transcript(soupctl, golden):
    """Runs commands one after the other, and compares all that they say with a golden file."""

    def run(name: str, *commands: str) -> None:
        lines = []
        for command in commands:
            done = soupctl(*shlex.split(command))
            lines += [f"$ soupctl {command}", f"{done.text}{done.message}-> {done.code}", ""]
        golden(name, "\n".join(lines))

    return run


def digests(soupctl, *paths: str) -> set[str]:
    """The content digests of some checkpoints."""
    return {line.split()[0] for line in soupctl("hash", *paths).text.splitlines()}


LIFE = ["add", "subtract", "swap", "delta", "apply", "merge", "has", "log", "verify"]


@pytest.mark.parametrize("command", LIFE)
def test_help_of_the_life_cycle_reads_as_expected(soupctl, golden, command):
    golden(f"help-{command}", soupctl(command, "--help").text)


def test_the_story_of_a_soup_reads_as_expected(soups, transcript, save):
    save("d.st", tensors("d"))

    transcript(
        "life",
        "add soup.st d.st@1/2 -o abcd.st",
        "subtract abcd.st b.st -o acd.st",
        "swap acd.st a.st b.st@2 -o bcd.st",
        "has bcd.st b.st",
        "has bcd.st a.st",
        "has bcd.st c.st --json",
        "log bcd.st",
        "log bcd.st --json",
        "verify bcd.st",
        "verify bcd.st --level digest --json",
        "subtract soup.st a.st -o approximate.st --approximate",
        "log approximate.st",
        "verify approximate.st",
        "verify approximate.st --level rebuild",
        "add approximate.st a.st -o again.st",
        "log again.st",
    )


def test_an_ingredient_added_and_removed_leaves_no_trace(soups, soupctl):
    commands = [
        "subtract soup.st b.st -o ac.st",
        "add ac.st b.st -o abc.st",
        "swap abc.st c.st c.st -o same.st",
    ]
    assert [soupctl(*command.split()).code for command in commands] == [0, 0, 0]
    soupctl("avg", "a.st", "c.st", "-o", "direct.st")

    assert len(digests(soupctl, "ac.st", "direct.st")) == 1
    assert len(digests(soupctl, "soup.st", "abc.st", "same.st")) == 1


def test_a_soup_is_changed_in_place_only_by_force(soups, soupctl):
    before = Path("soup.st").read_bytes()
    kept = soupctl("subtract", "soup.st", "a.st", "-o", "soup.st")

    assert (kept.code, Path("soup.st").read_bytes()) == (6, before)
    assert soupctl("subtract", "soup.st", "a.st", "-o", "soup.st", "-f").code == 0
    assert soupctl("has", "soup.st", "a.st").code == NO
    assert soupctl("verify", "soup.st", "--level", "rebuild").code == 0
    rounded = soupctl("subtract", "soup.st", "b.st", "-o", "soup.st", "-f", "--approximate")
    assert rounded.code == 0
    assert "approximate" in rounded.message


def test_an_impossible_change_is_refused_and_writes_nothing(soups, soupctl, save, holds, golden):
    save("d.st", tensors("d"))
    before = holds()
    lines = []
    for command in (
        "subtract soup.st d.st -o x.st",
        "subtract soup.st nothing -o x.st",
        "subtract soup.st a.st@2 -o x.st",
        "subtract soup.st a.st a.st -o x.st",
        "subtract soup.st a.st b.st c.st -o x.st",
        "subtract a.st b.st -o x.st",
        "subtract soup.st a.st --count 3 -o x.st",
        "add soup.st a.st -o x.st",
        "add a.st b.st -o x.st",
        "swap soup.st d.st a.st -o x.st",
        "log a.st",
        "has a.st b.st",
    ):
        done = soupctl(*command.split())

        assert (LEDGER, "") == (done.code, done.text), command
        assert len(done.message.splitlines()) == 1, command
        assert before == holds(), command
        lines += [f"$ soupctl {command}", done.message]
    golden("refused-life", "\n".join(lines))


def test_usage_of_the_life_cycle_is_checked(soups, soupctl):
    for command in (
        "subtract soup.st a.st",
        "subtract soup.st -o x.st",
        "add soup.st a.st -o x.st --count 3 --total 3",
        "add soup.st a.st -o x.st --count 0",
        "subtract a.st b.st -o x.st --count 3 --exact",
        "subtract a.st b.st -o x.st --total 3 --exact",
        "add soup.st a.st -o - --json",
        "verify soup.st --level proven",
    ):
        assert soupctl(*command.split()).code == USAGE, command
    assert not Path("x.st").exists()


def test_swap_accepts_an_ingredient_of_the_soup_when_asked(soups, soupctl):
    refused = soupctl("swap", "soup.st", "a.st", "b.st", "-o", "x.st")

    assert (LEDGER, True) == (refused.code, "--again" in refused.message)
    assert soupctl("swap", "soup.st", "a.st", "b.st", "-o", "x.st", "--again").code == 0
    soupctl("avg", "b.st@2", "c.st", "-o", "direct.st")
    assert len(digests(soupctl, "x.st", "direct.st")) == 1


def test_ingredients_are_looked_for_where_search_says(soups, soupctl):
    Path("store").mkdir()
    Path("b.st").rename("store/renamed.safetensors")
    lost = soupctl("subtract", "soup.st", "a.st", "-o", "x.st")

    assert lost.code == LEDGER
    assert "b.st: is not found" in lost.message
    assert "--search DIR" in lost.message
    assert soupctl("subtract", "soup.st", "a.st", "-o", "x.st", "--search", "store").code == 0
    assert soupctl("verify", "x.st", "--level", "rebuild").code == 0
    assert soupctl("verify", "soup.st", "--level", "rebuild").code == NO
    found = soupctl("verify", "soup.st", "store/renamed.safetensors")
    assert found.text.startswith("OK: soup.st: rebuild")


def test_a_soup_that_was_tampered_with_is_not_proven_and_not_used(soups, soupctl):
    raw = bytearray(Path("soup.st").read_bytes())
    raw[-1] ^= 1
    Path("soup.st").write_bytes(raw)
    found = soupctl("verify", "soup.st")

    assert found.code == NO
    assert found.text.startswith("FAILED: soup.st: its ledger does not match its tensors; header: ")
    assert soupctl("add", "soup.st", "a.st", "-o", "x.st", "--again").code == LEDGER
    assert not Path("x.st").exists()


def test_a_soup_that_was_made_elsewhere_says_how_much_it_holds(soups, soupctl, save):
    save("elsewhere.st", tensors("e"))
    done = soupctl("subtract", "elsewhere.st", "c.st", "--count", "3", "-o", "x.st")

    assert done.code == 0
    assert "approximate" in done.message
    assert "approximate" in soupctl("log", "x.st").text


def test_the_plan_of_a_change_writes_nothing(soups, soupctl, holds):
    before = holds()
    planned = soupctl("subtract", "soup.st", "a.st", "-o", "x.st", "-n")

    assert (planned.code, before) == (0, holds())
    assert "50.000%  b.st  (weight 1)" in planned.text


def test_a_soup_from_a_stream_goes_to_a_stream(soups, soupctl):
    raw = Path("soup.st").read_bytes()
    done = soupctl("subtract", "-", "a.st", "-o", "-", "--search", ".", stdin=raw)
    Path("x.st").write_bytes(done.out)

    assert (done.code, done.message) == (0, "")
    assert soupctl("verify", "x.st", "--level", "rebuild").code == 0
