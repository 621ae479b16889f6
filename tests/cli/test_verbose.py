"""With -v every command shows all that it shows without, and more."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest

COMMANDS = {
    "avg": "avg a.st b.st -o new.st",
    "add": "add soup.st d.st -o new.st",
    "subtract": "subtract soup.st b.st -o new.st",
    "subtract each": "subtract soup.st --each -o 'new-{name}'",
    "swap": "swap soup.st b.st d.st -o new.st",
    "plan": "avg many.st many.st -o new.st -n",
    "has": "has soup.st b.st",
    "log": "log soup.st",
    "verify": "verify soup.st",
    "inspect": "inspect many.st",
    "inspect a soup": "inspect soup.st",
    "hash": "hash a.st b.st",
}
# other programs write to the same disk
HINTS = re.compile(
    r"\(--tensors lists every tensor\)|more \(all with -v\)|in [\d.]+ s$|\(free disk [^)]*\)"
)


@pytest.fixture
def soup(ingredients, save, soupctl) -> None:
    save("d.st", _arrays(3))
    save("many.st", {f"blocks.{number}.steps": np.array([number]) for number in range(100)})
    assert 0 == soupctl("avg", *ingredients, "-o", "soup.st").code


def _arrays(start: int) -> dict[str, np.ndarray]:
    return {
        "conv.bias": np.arange(start, start + 4, dtype=np.float16),
        "conv.weight": np.full((4, 4), start + 0.5, np.float32),
        "steps": np.array([7], np.int64),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_verbose_shows_more_and_loses_nothing(soupctl, soup, name):
    words = shlex.split(COMMANDS[name])
    plain = soupctl(*words)
    more = soupctl(*words, "-v", *(["-f"] if "-o" in words else []))

    assert plain.code == more.code
    shown, every = plain.text + plain.message, more.text + more.message
    lines = [line for line in shown.splitlines() if not HINTS.search(line)]
    assert lines or plain.code == 0
    assert [] == [line for line in lines if line not in every.splitlines()]
    assert len(every.splitlines()) > len(lines)


def test_verbose_shows_the_plan_and_every_special_tensor(soupctl, soup, golden):
    done = soupctl("avg", "a.st", "b.st@1/3", "-o", "new.st", "-v", "-j1")

    assert (0, b"") == (done.code, done.out)
    same = [line for line in done.message.splitlines() if "read and written" not in line]
    golden("verbose", "\n".join(line for line in same if "free disk" not in line) + "\n")


def test_verbose_names_every_issue(soupctl, save):
    for name, size in (("a.st", 2), ("b.st", 3)):
        save(name, {f"w{number}": np.zeros(size, np.float32) for number in range(9)})

    assert 5 == soupctl("avg", "a.st", "b.st", "-o", "c.st").message.count("b.st: w")
    assert 9 == soupctl("avg", "a.st", "b.st", "-o", "c.st", "-v").message.count("b.st: w")
