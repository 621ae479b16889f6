"""The work of a command grows with the ingredients in a ledger, and no faster."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from making import metadata, save
from work import calls_in

from soupctl.checkpoints.digest import text_digest
from soupctl.cli.app import commands
from soupctl.errors import SoupError
from soupctl.ledger.sealed import canonical, sealed

SIZES = (100, 200, 400)
COMMANDS = (
    "inspect many.st --summary",
    "inspect many.st --json",
    "log many.st",
    "log many.st --tree",
    "log many.st --json",
    "log many.st --recipe",
    "has many.st a.st",
    "verify many.st",
    "subtract many.st m1 -o o.st",
    "subtract many.st --each -o o-{name}",
    "swap many.st m1 b.st -o o.st",
    "add many.st b.st -o o.st",
    "add b.st many.st -o o.st",
    "avg many.st b.st -o o.st -n",
)


def run(words: str) -> None:
    # a refusal is work, too
    with suppress(SoupError):
        commands().main(args=words.split(), prog_name="soupctl", standalone_mode=False)


@pytest.fixture
def with_ingredients(tmp_path, monkeypatch, capsys):
    """Writes a soup whose ledger lists so many ingredients, none of which is there."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("ab", 1):
        save(Path(f"{name}.st"), w=np.full(2, number, np.float16))
    run("avg a.st b.st -o soup.st")
    document = json.loads(metadata(Path("soup.st"))["soupctl"])
    del document["digest"]
    entry = document["ingredients"][0]

    def write(count: int) -> None:
        document["ingredients"] = [
            {**entry, "digest": f"blake3:{number:064x}", "name": f"m{number}", "hint": None}
            for number in range(1, count + 1)
        ]
        whole = canonical(sealed(document, text_digest))
        save(Path("many.st"), {"soupctl": whole}, w=np.full(2, 1.5, np.float16))

    return write


@pytest.mark.parametrize("command", COMMANDS)
def test_work_grows_as_the_ingredients_do(with_ingredients, command):
    with_ingredients(SIZES[0])
    # what is done once, such as imports
    run(command)
    few, more, most = [calls_of(with_ingredients, count, command) for count in SIZES]

    assert few < more < most
    # twice as many more, with a little for what grows by its logarithm
    assert most - more < 2.5 * (more - few)


def calls_of(with_ingredients, count: int, command: str) -> int:
    with_ingredients(count)
    return calls_in(lambda: run(command))
