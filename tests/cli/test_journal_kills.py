"""A kill before any file operation leaves whole files, and journals with which a command goes on.

Rule 1: the kills are real: a preloaded shim (tests/fault/shim.c) ends the process.
Rule 2: of commands with many operations, some are tried, spread over all of them.
"""

from __future__ import annotations

import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from scores import VALUES

from soupctl.scoring.journal import read_scores

KILLS = 8
SCORER = """
import numpy as np
def closeness(arrays):
    return -float(np.abs(arrays["w"].astype(float) - 1).sum())
"""
CHOICES = {
    "greedy": "greedy a.st b.st c.st -o out.st --scorer score.py:closeness -j1 --resume",
    "search": "search a.st b.st -o out.st --trials 4 --scorer score.py:closeness -j1 --resume",
    "rank": "rank soup.st --scorer score.py:closeness -j1 --resume",
}
FILES = {
    "attest": "attest soup.st -o out.json -j1",
    "bom": "bom soup.st -o out.json",
    "record": "record a.st -o out.st --data data --base b.st --steps 5 -j1",
}


@pytest.fixture(autouse=True)
def inputs(folder, save):
    """Ingredients, their soup, a scorer and a folder of images in the working folder."""
    for name, values in VALUES.items():
        save(name, {"w": np.array(values, np.float16)})
    Path("score.py").write_text(SCORER)
    Path("data").mkdir()
    Path("data/1.png").write_bytes(b"an image")


@pytest.fixture
def run(shim_server, soupctl, folder, tmp_path):
    """Runs a command, or ends it before the operation of that number; tells how many it has."""
    soupctl("avg", "a.st", "b.st", "-o", "soup.st")
    soupctl.server = shim_server
    log = tmp_path / "log"

    def command(words: str, number: int | None = None):
        log.write_bytes(b"")
        fault = {} if number is None else {"SHIM_AT": str(number)}
        places = {"SHIM_ROOT": str(folder), "SHIM_LOG": str(log)}
        done = soupctl(*shlex.split(words), environment={**places, **fault})
        return done, len(log.read_text().splitlines())

    return command


def cleared(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("words", FILES.values(), ids=FILES)
def test_a_kill_leaves_a_whole_file_or_none(run, folder, holds, words, record_property):
    before = holds()
    done, count = run(words)
    assert 0 == done.code
    after = holds()
    (made,) = after.keys() - before.keys()
    record_property("kills", count)

    for number in range(1, count + 1):
        cleared(folder, {name.split("/")[0] for name in before})
        done, _ = run(words, number)

        assert -signal.SIGKILL == done.code, number
        left = {name: data for name, data in holds().items() if not name.endswith(".partial")}
        assert left in (before, {**before, made: after[made]}), number


@pytest.mark.parametrize("command", CHOICES)
def test_a_kill_loses_no_journal_and_resuming_ends_alike(
    run, folder, holds, command, record_property
):
    before = holds()
    whole, count = run(CHOICES[command])
    assert 0 == whole.code
    after = holds()
    (journal,) = [name for name in after if name.endswith(".jsonl")]
    lines = after[journal].splitlines(keepends=True)
    numbers = sorted({round(each) for each in np.linspace(1, count, KILLS)})
    record_property("kills", len(numbers))

    for number in numbers:
        cleared(folder, {name.split("/")[0] for name in before})
        done, _ = run(CHOICES[command], number)

        assert -signal.SIGKILL == done.code, number
        if Path(journal).exists():
            found = Path(journal).read_bytes()
            assert after[journal].startswith(found), number
            assert len(read_scores(Path(journal)).scores) == max(0, found.count(b"\n") - 1)
        # -f, because the soup may have had its name already
        again, _ = run(f"{CHOICES[command]} -f")
        assert (0, whole.text) == (again.code, again.text), number
        assert lines == Path(journal).read_bytes().splitlines(keepends=True), number
        left = {name: data for name, data in holds().items() if not name.endswith(".partial")}
        assert after == left, number
