"""Refusals with --json: one object on stderr, of the same issues as the line for a person."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from processes import waits_for

COMMANDS = {
    "usage": (2, "avg a.st b.st --wat -o c.st"),
    "usage-missing": (2, "inspect"),
    "usage-command": (2, "remove a.st"),
    "usage-own": (2, "avg a.st b.st -o c.st --max-memory lots"),
    "usage-weights": (2, "avg a.st@0 b.st -o c.st"),
    "input": (3, "avg a.st bb.st -o c.st"),
    "nonfinite": (3, "avg nan.st nan.st -o c.st"),
    "mismatch": (4, "avg a.st other.st -o c.st"),
    "ledger": (5, "subtract soup.st other.st -o c.st"),
    "output": (6, "avg a.st b.st -o soup.st"),
    "limit": (7, "avg a.st b.st -o c.st --max-memory 1M"),
}


@pytest.fixture
def files(ingredients, save, soupctl) -> None:
    save("nan.st", {"w": np.full(4, np.nan, np.float32)})
    save("other.st", {f"w{number}": np.zeros(number + 1, np.float32) for number in range(9)})
    assert 0 == soupctl("avg", *ingredients, "-o", "soup.st").code


@pytest.mark.parametrize("name", COMMANDS)
def test_both_forms_say_the_same(soupctl, files, golden, name):
    code, command = COMMANDS[name]
    text = soupctl(*command.split())
    asked = soupctl(*command.split(), "--json")

    assert (code, b"") == (text.code, text.out)
    assert (code, b"") == (asked.code, asked.out)
    error = json.loads(asked.message)
    assert 1 == len(asked.message.splitlines())
    assert code == error["code"]
    assert f"soupctl: {error['message']}\n" == text.message
    first = {key: error[key] for key in ("what", "file", "tensor", "advice")}
    assert first == error["issues"][0]
    golden(f"error-json-{name}", asked.message)


def test_every_issue_is_listed_where_a_line_shows_five(soupctl, save):
    for name, size in (("a.st", 2), ("b.st", 3)):
        save(name, {f"w{number}": np.zeros(size, np.float32) for number in range(9)})

    error = json.loads(soupctl("avg", "a.st", "b.st", "-o", "c.st", "--json").message)
    all_in_line = soupctl("avg", "a.st", "b.st", "-o", "c.st", "-v").message

    assert 9 == len(error["issues"])
    assert [f"w{number}" for number in range(9)] == [each["tensor"] for each in error["issues"]]
    assert {"b.st"} == {each["file"] for each in error["issues"]}
    assert error["message"].endswith("; and 4 more (all with -v)")
    assert 9 == all_in_line.count("b.st: w")


def test_names_that_are_no_text_are_escaped(soupctl, ingredients):
    name = os.fsdecode(b"\xff\x1b.st")

    error = json.loads(soupctl("hash", name, "--json").message)

    assert name == error["file"]
    assert error["message"].startswith("\\udcff\\x1b.st: ")


def test_json_after_two_dashes_is_a_name(soupctl):
    done = soupctl("hash", "--", "--json")

    assert done.message.startswith("soupctl: --json: cannot be read: ")


def test_an_interruption_is_an_object_too(soupctl, ingredients, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    running = soupctl.start("avg", "a.st", "-", "-o", "c.st", "--json", stdin=fifo)
    with fifo.open("wb", buffering=0) as stream:
        stream.write(Path("b.st").read_bytes()[:9])
        # read by the command, so its handlers stand
        while not waits_for(running.id, stream):
            time.sleep(0.001)
        running.send(signal.SIGINT)
        done = running.wait()

    error = json.loads(done.message)
    assert (130, 130, "interrupted") == (done.code, error["code"], error["message"])
