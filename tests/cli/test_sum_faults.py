"""A soup and its sum while each file operation fails, or is the last: never one without its own.

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

AVERAGE = ("avg", "a.st", "b.st", "--keep-sum")
SUBTRACT = ("subtract", "SOUP", "b.st", "-f")
COMMANDS = {
    "a new soup": ((), AVERAGE),
    "a replaced soup": (("a.st@2", "b.st"), (*AVERAGE, "-f")),
    "a soup in place": (("a.st", "b.st"), SUBTRACT),
    "a soup in place that stays": (("a.st", "b.st"), ("swap", "SOUP", "b.st", "b.st", "-f")),
    "a sum dropped": (("a.st", "b.st"), (*SUBTRACT, "--no-keep-sum")),
}
LAYOUTS = {"file": ("c.st",), "folder": ("c", "--shard-size", "100")}

SCENARIOS = [
    ("a new soup", "file"),
    ("a new soup", "folder"),
    ("a replaced soup", "folder"),
    ("a soup in place", "file"),
    ("a soup in place", "folder"),
    ("a soup in place that stays", "file"),
    ("a sum dropped", "folder"),
]

NAMING = ("link", "rename", "unlink", "mkdir")
"""Operations that change what there is under which name."""

Holdings = dict[str, bytes | None]


@dataclass
class SumScenario:
    """One command, before which there is an old soup with its sum, or none."""

    soupctl: object
    folder: Path
    log: Path
    soup: str
    arguments: tuple[str, ...]
    start: Path

    def run(self, **fault: object):
        """What becomes of the command under a fault."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.start, self.folder)
        self.log.write_bytes(b"")
        places = {"SHIM_ROOT": str(self.folder), "SHIM_LOG": str(self.log)}
        faults = {name: str(value) for name, value in fault.items()}
        return self.soupctl(*self.arguments, "-j1", environment={**places, **faults})

    @property
    def operations(self) -> list[str]:
        """What the command did with files below its folder."""
        return self.log.read_text().splitlines()

    def soup_in(self, found: Holdings) -> Holdings:
        """The files of the soup itself."""
        return {k: v for k, v in found.items() if k.split("/")[0] == self.soup}

    def sums_in(self, found: Holdings) -> dict[str, Holdings]:
        """The files of each sum, by the name of the sum."""
        sums: dict[str, Holdings] = {}
        for name, data in found.items():
            top = name.split("/")[0]
            if top.endswith(".sum"):
                sums.setdefault(top, {})[name] = data
        return sums


@pytest.fixture(params=SCENARIOS, ids=" as a ".join)
def scenario(request, shim_server, soupctl, ingredients, folder, tmp_path) -> SumScenario:
    old, command = COMMANDS[request.param[0]]
    soup, *shape = LAYOUTS[request.param[1]]
    soupctl.server = shim_server
    if old:
        assert 0 == soupctl("avg", *old, "-o", soup, *shape, "--keep-sum").code
    if "SOUP" in command:
        # what stays is not needed, and not looked at
        Path("a.st").unlink()
        shape = []
    shutil.copytree(folder, tmp_path / "start")
    arguments = (*(soup if part == "SOUP" else part for part in command), "-o", soup, *shape)
    return SumScenario(soupctl, folder, tmp_path / "log", soup, arguments, tmp_path / "start")


@pytest.fixture
def before_and_after(scenario, holds) -> tuple[Holdings, Holdings, int]:
    """What there is before the command and after it, and how many operations it takes."""
    before = holds()
    assert 0 == scenario.run().code
    after = holds()
    names = [*scenario.sums_in(before), *scenario.sums_in(after)]
    assert all(name.startswith(f"{scenario.soup}.") for name in names)
    return before, after, len(scenario.operations)


def whole(found: Holdings) -> Holdings:
    """What there is but for names that say that they are of something unfinished."""
    return {k: v for k, v in found.items() if not k.split("/")[0].endswith(".partial")}


def assert_sound(scenario: SumScenario, found: Holdings, before: Holdings, after: Holdings) -> None:
    """Old or new, whole, with a sum that is its own; and nothing else but the other's sum."""
    states = [each for each in (before, after) if scenario.soup_in(each) == scenario.soup_in(found)]
    assert states
    sums = scenario.sums_in(found)
    expected = [scenario.sums_in(before), scenario.sums_in(after)]
    for name, files in sums.items():
        assert files in [known[name] for known in expected if name in known]
    for state in states:
        assert set(scenario.sums_in(state)) <= set(sums)
    own = {*scenario.soup_in(found), *(name for each in sums.values() for name in each)}
    inputs = {"a.st", "b.st"} & set(before)
    assert set(found) == own | inputs
    assert all(found[name] == before[name] for name in inputs)


def test_an_operation_that_fails_leaves_a_soup_with_its_own_sum(
    scenario, before_and_after, holds, record_property
):
    before, after, count = before_and_after
    record_property("faults", count)

    for number in range(1, count + 2):
        done = scenario.run(SHIM_AT=number, SHIM_ERRNO=errno.EIO)
        operation = scenario.operations[number - 1 : number]
        context = (number, done, operation)
        found = whole(holds())

        assert done.code in (0, 3, 5, 6), context
        assert len(done.message.splitlines()) == bool(done.code), context
        assert_sound(scenario, found, before, after)
        left = {name.split("/")[0] for name in set(holds()) - set(found)}
        assert all(name in done.message for name in left), context
        if done.code:
            continue
        assert scenario.soup_in(after) == scenario.soup_in(found), context
        # what cannot be looked at is not taken for an old sum
        assert found == after or operation[0].startswith(("open ", "close ")), context
    # one past the last operation, nothing fails
    assert (0, after) == (done.code, found)


def test_a_kill_at_any_moment_leaves_a_soup_with_its_own_sum(
    scenario, before_and_after, holds, record_property
):
    before, after, count = before_and_after
    verbs = [operation.split()[0] for operation in (*scenario.operations, "end")]
    # between these, only what has no name yet or a random one changes
    shown = [n for n in range(1, count + 1) if {verbs[n - 1], verbs[max(0, n - 2)]} & {*NAMING}]

    assert len(shown) > 3
    record_property("kills", len(shown))
    for number in shown:
        done = scenario.run(SHIM_AT=number)

        assert -signal.SIGKILL == done.code, scenario.operations[number - 1]
        assert_sound(scenario, whole(holds()), before, after)


def test_writes_that_stop_short_are_continued(scenario, before_and_after, holds):
    done = scenario.run(SHIM_SHORT=5)

    assert (0, before_and_after[1]) == (done.code, holds())
