"""Each ingredient is left out in turn on the command line: what is said, written and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

USAGE, LEDGER, OUTPUT, LIMIT = 2, 5, 6, 7
OUTPUTS = ["loo-a.st", "loo-b.st", "loo-c.st"]


@pytest.fixture
def soups(soupctl, save):
    """`a.st`, `b.st` and `c.st`, and their soup `soup.st`."""
    for name in "abc":
        values = np.random.default_rng(ord(name)).normal(size=50)
        save(f"{name}.st", {"w": values.astype(np.float16), "ids": np.arange(3)})
    assert soupctl("avg", "a.st", "b.st", "c.st@1/2", "-o", "soup.st").code == 0


def of_machine(line: str) -> bool:
    """Whether a line tells of time, disk or memory, which differ from machine to machine."""
    return any(words in line for words in ("read and written", "free disk", "memory "))


def test_each_soup_equals_that_of_subtracting_its_ingredient(soups, soupctl, golden):
    done = soupctl("subtract", "soup.st", "--each", "-o", "loo-{name}", "-v")
    said = [line for line in done.message.splitlines() if not of_machine(line)]

    assert (0, "") == (done.code, done.text)
    golden("each", "\n".join([*said, ""]))
    for name in "abc":
        command = f"subtract soup.st {name}.st -o one.st -f"
        assert soupctl(*command.split()).code == 0
        assert Path("one.st").read_bytes() == Path(f"loo-{name}.st").read_bytes()


def test_without_a_terminal_only_approximate_results_are_reported(soups, soupctl):
    done = soupctl("subtract", "soup.st", "--each", "-o", "loo-{name}")
    again = soupctl("subtract", "soup.st", "--each", "-o", "loo-{name}", "-f", "--approximate")

    assert (0, "", "") == (done.code, done.text, done.message)
    assert 1 == len(again.message.splitlines())
    assert again.message.startswith("soupctl: loo-{name}: approximate")
    assert soupctl("verify", "loo-a.st").code == 0


def test_json_tells_of_every_soup(soups, soupctl):
    done = soupctl("subtract", "soup.st", "--each", "-o", "loo-{name}", "--json")
    alone = soupctl("subtract", "soup.st", "b.st", "-o", "one.st", "--json").json
    outputs = done.json["outputs"]

    assert OUTPUTS == [each["output"] for each in outputs]
    assert ["a.st", "b.st", "c.st"] == [each["without"] for each in outputs]
    assert {"without": "b.st", **alone, "output": "loo-b.st"} == outputs[1]


def test_the_plan_shows_every_soup_and_writes_nothing(soups, soupctl, holds):
    before = holds()
    command = ("subtract", "soup.st", "--each", "-o", "loo-{name}", "-n")
    shown = soupctl(*command).text
    plan = soupctl(*command, "--json").json

    assert before == holds()
    assert "output   loo-b.st\n          66.667%  a.st  (weight 1)\n" in shown
    assert "read     372 B\nwrite    372 B (free disk" in shown
    assert shown.rstrip().endswith("1 round")
    assert [372, 372, 1] == [plan[key] for key in ("bytes_to_read", "bytes_to_write", "rounds")]
    assert OUTPUTS == [each["output"] for each in plan["outputs"]]
    Path("loo-c.st").touch()
    assert soupctl(*command).code == OUTPUT


def test_a_request_that_is_no_family_is_refused(soups, soupctl, holds, golden):
    Path("loo-b.st").touch()
    before = holds()
    lines = []
    for command, code in (
        ("subtract soup.st --each", USAGE),
        ("subtract soup.st --each -o x.st", USAGE),
        ("subtract soup.st --each -o -", USAGE),
        ("subtract soup.st a.st --each -o {name}", USAGE),
        ("subtract soup.st --each -o x-{name} --count 3", USAGE),
        ("subtract soup.st --each -o x-{name} --keep-sum", USAGE),
        ("subtract soup.st -o x.st", USAGE),
        ("subtract a.st --each -o x-{name}", LEDGER),
        ("subtract soup.st --each -o loo-{name}", OUTPUT),
        ("subtract soup.st --each -o {name} -f", OUTPUT),
        ("subtract soup.st --each -o no/{name}", OUTPUT),
    ):
        done = soupctl(*command.split())

        assert (code, "") == (done.code, done.text), command
        assert before == holds(), command
        lines += [f"$ soupctl {command}", done.message]
    golden("refused-each", "\n".join(lines))
    small = soupctl("subtract", "soup.st", "--each", "-o", "x-{name}", "--max-memory", "1M")
    assert (LIMIT, before) == (small.code, holds())


def test_a_soup_of_one_ingredient_cannot_do_without_it(soups, soupctl, holds):
    soupctl("avg", "a.st", "-o", "one.st")
    before = holds()
    done = soupctl("subtract", "one.st", "--each", "-o", "loo-{name}")

    assert (LEDGER, before) == (done.code, holds())
    assert done.message.startswith(
        "soupctl: a.st: cannot be removed: nothing would be left of one.st"
    )


def test_a_soup_from_a_stream_has_a_family(soups, soupctl):
    raw = Path("soup.st").read_bytes()
    options = ("--each", "-o", "loo-{name}", "--search", ".")

    assert soupctl("subtract", "-", *options, stdin=raw).code == 0
    for output in OUTPUTS:
        assert soupctl("verify", output, "--level", "rebuild").code == 0
