"""A whole command while each of its file operations fails, or is its last: old or new, no trace.

Rule 1: the faults are real: a preloaded shim (tests/fault/shim.c) makes the system's calls fail.
Rule 2: each operation is tried in turn, 1, 2, ... until one more than there are.
"""

from __future__ import annotations

import errno
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

FILE = ("-o", "c.st", "-f", "-j1")
FOLDER = ("-o", "c", "--shard-size", "100", "-f", "-j1")
AVERAGE = ("avg", "a.st", "b.st")
SLERP = ("merge", "a.st", "b.st", "--method", "slerp")
OUTPUTS = {
    "a file": (AVERAGE, FILE),
    "a folder": (AVERAGE, FOLDER),
    "a merge": (SLERP, FILE),
}
"""Commands with the options of their outputs."""


@dataclass
class Scenario:
    """One command, before which there is an old output or none."""

    soupctl: object
    folder: Path
    log: Path
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    replace: bool

    def run(self, **fault: object):
        """What becomes of the command under a fault."""
        for path in self.folder.iterdir():
            if path.name not in ("a.st", "b.st", "old"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.replace:
            old = Path("old")
            copy = shutil.copytree if old.is_dir() else shutil.copy
            copy(old, self.arguments[1])
        self.log.write_bytes(b"")
        places = {"SHIM_ROOT": str(self.folder), "SHIM_LOG": str(self.log)}
        faults = {name: str(value) for name, value in fault.items()}
        return self.soupctl(*self.command, *self.arguments, environment={**places, **faults})

    @property
    def operations(self) -> list[str]:
        """What the command did with files below its folder."""
        return self.log.read_text().splitlines()


CASES = [(name, replace) for name in ("a file", "a folder") for replace in (False, True)]
CASES.append(("a merge", False))


@pytest.fixture(params=CASES, ids=lambda each: f"{each[0]} {'replaced' if each[1] else 'new'}")
def scenario(request, shim_server, soupctl, ingredients, folder, tmp_path) -> Scenario:
    soupctl.server = shim_server
    name, replace = request.param
    words, arguments = OUTPUTS[name]
    if replace:
        soupctl("avg", "a.st@2", "b.st", "-o", "old", *arguments[2:])
    return Scenario(soupctl, folder, tmp_path / "log", words, arguments, replace)


def contents(holds) -> dict[str, bytes | None]:
    """What there is, but for inputs and the copy of the old output, which must be untouched."""
    return {name: data for name, data in holds().items() if name.split("/")[0] != "old"}


@pytest.fixture
def before_and_after(scenario, holds, ingredients):
    """What there is before the command and after it, and how many operations it takes."""
    assert 0 == scenario.run().code
    after = contents(holds)
    count = len(scenario.operations)
    first = scenario.run(SHIM_AT=1, SHIM_ERRNO=errno.EIO)
    assert 3 == first.code
    return contents(holds), after, count


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_an_operation_that_fails_leaves_old_or_new(
    scenario, before_and_after, holds, error, record_property
):
    before, after, count = before_and_after
    record_property("faults", count)

    for number in range(1, count + 2):
        done = scenario.run(SHIM_AT=number, SHIM_ERRNO=error)
        context = (number, done, scenario.operations[number - 1 : number])

        assert done.code in (0, 3, 6), context
        assert done.out == b"", context
        assert len(done.message.splitlines()) == bool(done.code), context
        assert done.message.startswith("soupctl: " if done.code else ""), context
        found = contents(holds)
        assert found in (before, after), context
        if done.code == 0:
            assert found == after, context
        if done.code == 3:
            assert found == before, context
    # one past the last operation, nothing fails
    assert 0 == done.code


def test_a_kill_before_any_operation_leaves_old_or_new(
    scenario, before_and_after, holds, record_property
):
    before, after, count = before_and_after
    record_property("kills", count)

    for number in range(1, count + 1):
        done = scenario.run(SHIM_AT=number)
        operation = scenario.operations[number - 1]
        found = {
            name: data
            for name, data in contents(holds).items()
            # a name that says what it is; a file has none before its last two steps
            if not name.split("/")[0].endswith(".partial")
        }

        assert -signal.SIGKILL == done.code, operation
        assert found in (before, after), operation


def test_writes_that_stop_short_are_continued(scenario, before_and_after, holds):
    done = scenario.run(SHIM_SHORT=5)

    assert (0, before_and_after[1]) == (done.code, contents(holds))
