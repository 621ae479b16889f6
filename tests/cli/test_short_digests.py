"""Digests are short on a terminal, and whole in a pipe, with --json and with -v."""

from __future__ import annotations

import re

import numpy as np
import pytest
from terminal import Terminal

COMMANDS = ("inspect soup.st", "log soup.st", "has soup.st b.st", "hash a.st", "verify soup.st")
WHOLE = re.compile(r"(?:blake3|sha256):[0-9a-f]{64}")
SHORT = re.compile(r"(?:blake3|sha256):[0-9a-f]{12}\b")


@pytest.fixture
def shown(soupctl):
    """What a command that succeeds prints on a terminal that is its stdout."""

    def run(*arguments: str) -> str:
        terminal = Terminal()
        done = soupctl(*arguments, out=terminal.path)
        text = terminal.shown().decode().replace("\r\n", "\n")

        assert 0 == done.code
        return text

    return run


@pytest.fixture
def soup(ingredients, soupctl) -> None:
    assert 0 == soupctl("avg", *ingredients, "-o", "soup.st").code


def test_a_terminal_shows_short_digests(soup, shown, golden):
    texts = [f"$ soupctl {command}\n{shown(*command.split())}" for command in COMMANDS]

    assert not WHOLE.search("".join(texts))
    assert max(len(line) for text in texts for line in text.splitlines()) <= 80
    golden("short-digests", "\n".join(texts))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_and_verbose_show_whole_digests(soup, shown, soupctl, command):
    whole = [soupctl(*command.split()).text, shown(*command.split(), "-v")]

    assert not any(SHORT.search(text) for text in whole)
    assert bool(WHOLE.search(whole[0])) == (command != "verify soup.st")


def test_json_on_a_terminal_has_whole_digests(soup, shown):
    text = shown("log", "soup.st", "--json")

    assert WHOLE.search(text)
    assert not SHORT.search(text)


def test_a_short_digest_names_an_ingredient(soup, shown, soupctl):
    (digest,) = SHORT.findall(shown("has", "soup.st", "b.st"))

    assert 0 == soupctl("has", "soup.st", digest).code
    assert 0 == soupctl("subtract", "soup.st", digest, "-o", "rest.st").code
    assert 0 == soupctl("has", "soup.st", digest[:-1]).code
    assert soupctl("hash", "a.st").text.split()[0] == soupctl("hash", "rest.st").text.split()[0]


def test_a_result_has_a_short_digest_on_a_terminal(soup, soupctl):
    terminal = Terminal()
    soupctl("avg", "a.st", "b.st", "-o", "new.st", err=terminal.path)
    text = terminal.shown().decode()

    assert SHORT.search(text)
    assert not WHOLE.search(text)


def test_many_tensors_are_counted_by_block(soupctl, save, golden):
    names = [f"down_blocks.{number}.resnets.{part}.weight" for number in range(12) for part in "01"]
    save("many.st", {name: np.zeros((2, 3), np.float16) for name in [*names, "conv_in.bias"]})

    done = soupctl("inspect", "many.st")
    listed = soupctl("inspect", "many.st", "--tensors").text

    assert (0, "") == (done.code, done.message)
    golden("inspect-blocks", done.text)
    assert all(name in listed for name in names)


def test_many_blocks_are_counted_by_kind(soupctl, save):
    names = [f"transformer_blocks.{number}.weight" for number in range(30)]
    save("many.st", {name: np.zeros(2, np.float16) for name in [*names, "proj_in.weight"]})

    lines = soupctl("inspect", "many.st").text.splitlines()

    assert "  proj_in               1 tensor     2 (4 B), F16" in lines
    assert "  transformer_blocks.*  30 tensors   60 (120 B), F16" in lines


def test_names_without_blocks_are_cut_off_and_counted(soupctl, save):
    save("many.st", {f"w{number}": np.zeros(2, np.float16) for number in range(50)})

    lines = soupctl("inspect", "many.st").text.splitlines()

    assert ["  ... and 30 more blocks", "  (--tensors lists every tensor)"] == lines[-2:]


def test_a_list_and_no_list_of_tensors_exclude_each_other(soupctl, ingredients):
    done = soupctl("inspect", "a.st", "--summary", "--tensors")

    assert 2 == done.code
