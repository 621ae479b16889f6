"""Publishing while every single file operation fails, or is the last: old or new, never less.

Rule 1: the faults are real: a preloaded shim makes the system's own calls fail, or kills.
Rule 2: each operation is tried in turn, 1, 2, ... until one more than there are, as SQLite does it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shim preloads into glibc")

OLD, NEW = "the old one", "new, and longer than the old one"
NEW_FOLDER = {
    "out": "/",
    "out/config.json": "",
    "out/model.st": NEW,
    "out/unet": "/",
    "out/unet/model.st": NEW,
}
OLD_FOLDER = {"out": "/", "out/model.st": OLD, "out/vae": "/", "out/vae/model.st": OLD}
BEFORE_AND_AFTER = {
    "a new file": ({}, {"out": NEW}),
    "a file replaced": ({"out": OLD}, {"out": NEW}),
    "a file replaced, written back early": ({"out": OLD}, {"out": NEW}),
    "a new folder": ({}, NEW_FOLDER),
    "a folder replaced": (OLD_FOLDER, NEW_FOLDER),
}
SCENARIOS = list(BEFORE_AND_AFTER)
# folders are never unnamed, and files with no name need no renameat2
SYSTEMS = [
    *((scenario, ()) for scenario in SCENARIOS),
    *((scenario, ("tmpfile",)) for scenario in SCENARIOS[:3]),
    *((scenario, ("tmpfile", "renameat2")) for scenario in SCENARIOS),
]
ERRORS = [errno.ENOSPC, errno.EIO, errno.EINTR]


@dataclass(frozen=True)
class Result:
    fault: dict[str, str]
    exit: int
    holds: dict[str, str]
    operations: list[str]

    @property
    def verbs(self) -> list[str]:
        return [operation.split()[0] for operation in self.operations]


Publish = Callable[..., list[Result]]


@pytest.fixture
def publish(
    shim: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> Publish:
    """Runs a scenario once under each of the faults."""

    def run(scenario: str, faults: list[dict[str, str]], lacking: tuple[str, ...] = ()):
        script = Path(__file__).with_name("publisher.py")
        arguments = [scenario, tmp_path / "root", tmp_path / "log", json.dumps(faults), *lacking]
        done = subprocess.run(
            [sys.executable, script, *arguments],
            env={**os.environ, **shim},
            stdout=subprocess.PIPE,
            check=True,
        )
        results = [Result(**json.loads(line)) for line in done.stdout.splitlines()]
        kills = sum(result.exit == -signal.SIGKILL for result in results)
        record_property("kills", kills)
        record_property("faults", sum(map(bool, faults)) - kills)
        return results

    return run


def named_at(result: Result) -> int:
    """The number of the operation that gives the output its name, the last one to do so."""
    names = [
        number
        for number, operation in enumerate(result.operations, 1)
        if operation.split()[0] in ("link", "rename") and operation.endswith("/root/out")
    ]
    return names[-1]


@pytest.mark.parametrize(("scenario", "lacking"), SYSTEMS, ids=str)
def test_an_operation_that_fails_leaves_the_old_output_or_the_new_one(publish, scenario, lacking):
    before, after = BEFORE_AND_AFTER[scenario]
    (whole,) = publish(scenario, [{}], lacking)
    numbers = range(1, len(whole.operations) + 2)

    results = publish(
        scenario,
        [
            {"SHIM_AT": str(number), "SHIM_ERRNO": str(error)}
            for error in ERRORS
            for number in numbers
        ],
        lacking,
    )

    assert (0, after) == (whole.exit, whole.holds)
    for result in results:
        assert result.exit in (0, 6), result
        assert result.holds in (before, after), result
        if result.exit == 0:
            assert result.holds == after, result
        elif int(result.fault["SHIM_AT"]) <= named_at(whole):
            assert result.holds == before, result
    # one past the last operation, nothing fails
    assert [0] * len(ERRORS) == [each.exit for each in results[numbers[-1] - 1 :: numbers[-1]]]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_system_that_keeps_failing_leaves_the_old_output_or_the_new_one(publish, scenario):
    before, after = BEFORE_AND_AFTER[scenario]
    (whole,) = publish(scenario, [{}])

    results = publish(
        scenario,
        [
            {"SHIM_AT": str(number), "SHIM_ERRNO": str(errno.EIO), "SHIM_PERSIST": "1"}
            for number in range(1, len(whole.operations) + 1)
        ],
    )

    for result in results:
        assert result.exit == 6, result
        # what cannot be removed has a name that says so
        assert without_partials(result.holds) in (before, after), result


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_before_any_operation_leaves_the_old_output_or_the_new_one(publish, scenario):
    before, after = BEFORE_AND_AFTER[scenario]
    (whole,) = publish(scenario, [{}])

    results = publish(
        scenario, [{"SHIM_AT": str(number)} for number in range(1, len(whole.operations) + 1)]
    )

    for number, result in enumerate(results, 1):
        assert result.exit == -9, result
        expected = before if number <= named_at(whole) else after
        assert without_partials(result.holds) == expected, result


def test_a_kill_before_a_new_file_has_its_name_leaves_nothing_at_all(publish):
    (whole,) = publish("a new file", [{}])

    results = publish(
        "a new file", [{"SHIM_AT": str(number)} for number in range(1, named_at(whole) + 1)]
    )

    assert [{}] * len(results) == [result.holds for result in results]


def without_partials(holds: dict[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in holds.items()
        if not (name.startswith(".") and name.split("/")[0].endswith(".partial"))
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("most", [1, 7])
def test_writes_that_stop_short_are_continued(publish, scenario, most):
    (result,) = publish(scenario, [{"SHIM_SHORT": str(most)}])

    assert (0, BEFORE_AND_AFTER[scenario][1]) == (result.exit, result.holds)
    assert result.verbs.count("write") >= len(NEW) // most


def test_a_new_file_is_synced_then_named_and_then_its_folder_is_synced(publish):
    (result,) = publish("a new file", [{}])

    expected = ["open", "open", "fallocate", "write", "sync", "link", "sync", "close", "close"]
    assert expected == result.verbs
    assert result.operations[5].endswith("/root/out")
    assert result.operations[6].endswith("/root")


def test_a_replaced_file_is_synced_then_renamed_and_then_its_folder_is_synced(publish):
    (result,) = publish("a file replaced", [{}])

    expected = ["open", "open", "chmod", "fallocate", "write", "sync", "link", "rename", "sync"]
    assert [*expected, "close", "close"] == result.verbs
    assert result.operations[7].endswith("/root/out")
    assert result.operations[8].endswith("/root")


@pytest.mark.parametrize("scenario", ["a new folder", "a folder replaced"])
def test_all_files_and_folders_are_synced_before_the_folder_gets_its_name(publish, scenario):
    (result,) = publish(scenario, [{}])
    name = named_at(result) - 1
    synced = [
        operation.partition(".partial")[2]
        for operation in result.operations[:name]
        if operation.startswith("sync")
    ]
    written = [number for number, verb in enumerate(result.verbs) if verb == "write"]

    # each folder after the files in it
    assert ["/config.json", "/model.st", "/unet/model.st", "/unet", ""] == synced
    assert written[-1] < result.operations.index(
        next(each for each in result.operations if each.startswith("sync") and "model.st" in each)
    )
    assert result.operations[name + 1].startswith("sync")
    assert result.operations[name + 1].endswith("/root")


def test_what_is_written_back_early_is_synced_all_the_same_before_it_is_named(publish):
    (result,) = publish("a file replaced, written back early", [{}])
    last = len(result.verbs) - 1 - result.verbs[::-1].index("writeback")

    assert result.verbs.count("writeback") == 4
    assert result.verbs.index("sync") > last
    assert result.verbs.index("sync") < named_at(result) - 1


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_write_back_that_fails_is_an_error_and_leaves_the_old_output(publish, error):
    scenario = "a file replaced, written back early"
    (whole,) = publish(scenario, [{}])
    numbers = [number for number, verb in enumerate(whole.verbs, 1) if verb == "writeback"]

    results = publish(scenario, [{"SHIM_AT": str(n), "SHIM_ERRNO": str(error)} for n in numbers])

    assert [(6, {"out": OLD})] * 4 == [(each.exit, each.holds) for each in results]


def test_a_file_system_without_early_write_back_is_written_all_the_same(publish):
    scenario = "a file replaced, written back early"
    (whole,) = publish(scenario, [{}])
    fault = {"SHIM_AT": str(whole.verbs.index("writeback") + 1), "SHIM_ERRNO": str(errno.EINVAL)}

    (result,) = publish(scenario, [fault])

    assert (0, {"out": NEW}) == (result.exit, result.holds)
