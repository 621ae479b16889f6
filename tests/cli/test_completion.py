"""Completion by the shell, asked for as its scripts do: through the environment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def completed(process):
    """The words that are offered for the last word of a command line."""

    def run(line: str) -> list[str]:
        words = line.split(" ")
        environment = {
            "_SOUPCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        running = process(environment=environment)
        out, err = running.communicate()

        assert (0, b"") == (running.returncode, err)
        return out.decode().split()

    return run


@pytest.fixture
def soup(ingredients, soupctl) -> list[str]:
    """The digests of the ingredients of the soup `soup.st`."""
    assert 0 == soupctl("avg", *ingredients, "-o", "soup.st").code
    return [line.split()[0] for line in soupctl("hash", *ingredients).text.splitlines()]


def test_commands_options_and_dtypes_are_completed(completed, folder):
    assert ["subtract"] == completed("soupctl sub")
    assert ["--dtype", "--dtype-for"] == completed("soupctl avg --dty")
    assert ["F16", "F32", "F64"] == completed("soupctl avg a.st --dtype F")[2:]
    assert ["BF16"] == completed("soupctl avg a.st --dtype B")
    assert ["swap"] == completed("soupctl help sw")


def test_ingredients_are_completed_by_name(completed, soup):
    for command in ("has soup.st ", "subtract soup.st ", "swap soup.st "):
        assert ["a.st", "b.st"] == completed(f"soupctl {command}")
    assert ["b.st"] == completed("soupctl subtract soup.st a.st b")


def test_ingredients_are_completed_by_digest(completed, soup):
    shown = sorted(digest[: len("blake3:") + 12] for digest in soup)
    begun = soup[0][:30]

    assert shown == completed("soupctl has soup.st blake3:")
    assert [begun] == completed(f"soupctl has soup.st {begun}")


@pytest.mark.parametrize("name", ["none.st", "a.st", "b.txt"])
def test_a_plain_checkpoint_completes_nothing(completed, ingredients, name):
    Path("b.txt").write_text("text")

    assert [] == completed(f"soupctl subtract {name} ")


def test_a_name_that_a_shell_would_read_as_more_is_not_offered(completed, soupctl, save):
    names = ["plain.st", "$(touch x).st", "two words.st", "-o.st", "a;b.st"]
    for number, name in enumerate(names):
        save(f"./{name}", {"w": np.full(2, number, np.float32)})
    assert 0 == soupctl("avg", *(f"./{name}" for name in names), "-o", "soup.st").code

    assert ["plain.st"] == completed("soupctl subtract soup.st ")
