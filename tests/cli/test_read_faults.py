"""A command while each of its reads, looks at files and locks fails: no false word, and no trace.

Rule 1: the faults are real: a preloaded shim (tests/fault/shim.c) makes the system's calls fail.
Rule 2: each operation is tried in turn, 1, 2, ... until one more than there are.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

MAKING = {
    "a replaced soup": ("avg", "a.st", "b.st", "-o", "kept.st", "-f"),
    "a soup for a pipe": ("avg", "a.st", "b.st", "-o", "-"),
    "an added ingredient": ("add", "soup.st", "c.st", "-o", "d.st"),
    "a soup in place": ("subtract", "kept.st", "b.st", "-o", "kept.st", "-f"),
}
SHARDS = ("avg", "shards", "c.st", "-o", "d")
DELTA = ("delta", "a.st", "b.st", "-o", "d.st")
ASKING = {
    "proof": ("verify", "soup.st", "--level", "rebuild"),
    "proof with a sum": ("verify", "kept.st", "--level", "rebuild"),
    "question": ("has", "soup.st", "a.st"),
    "digest": ("hash", "soup.st"),
    "tensors": ("inspect", "soup.st"),
    "history": ("log", "soup.st", "--tree"),
}
TENSORS = {
    "conv.bias": np.ones(4, np.float16),
    "conv.weight": np.ones((4, 4), np.float32),
    "steps": np.array([7], np.int64),
}


@dataclass
class FailingReads:
    """Commands before which there are always the same files."""

    soupctl: object
    folder: Path
    start: Path
    log: Path

    def run(self, command: tuple[str, ...], **fault: object):
        """What becomes of a command under a fault."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.start, self.folder, dirs_exist_ok=True)
        self.log.write_bytes(b"")
        places = {"SHIM_ROOT": str(self.folder), "SHIM_LOG": str(self.log), "SHIM_READS": "1"}
        faults = {name: str(value) for name, value in fault.items()}
        return self.soupctl(*command, environment={**places, **faults})

    def each_failing(
        self, command: tuple[str, ...], error: int, kind: str = ""
    ) -> Iterator[tuple[str, object]]:
        """Each operation, or each of a kind, of a command, and what becomes of it if that fails."""
        self.run(command)
        operations = self.log.read_text().splitlines()
        for number, operation in enumerate(operations, 1):
            if operation.startswith(kind):
                yield operation, self.run(command, SHIM_AT=number, SHIM_ERRNO=error)


@pytest.fixture
def scenario(shim_server, soupctl, ingredients, save, folder, tmp_path) -> FailingReads:
    soupctl.server = shim_server
    save("c.st", TENSORS, {"format": "pt"})
    for words in (
        ("a.st", "b.st", "-o", "soup.st"),
        ("a.st", "b.st", "-o", "kept.st", "--keep-sum"),
        ("a.st", "b.st@2", "-o", "shards", "--shard-size", "100"),
    ):
        assert 0 == soupctl("avg", *words).code
    shutil.copytree(folder, tmp_path / "start")
    return FailingReads(soupctl, folder, tmp_path / "start", tmp_path / "log")


Counter = Callable[[str, object], None]


@pytest.mark.parametrize("command", MAKING.values(), ids=MAKING)
def test_a_read_that_fails_leaves_the_old_output_or_makes_the_right_one(
    scenario, holds, command, record_property: Counter
):
    whole = scenario.run(command)
    after = holds()
    before = {name: data for name, data in after.items() if (scenario.start / name).exists()}
    before |= {
        str(path.relative_to(scenario.start)): path.read_bytes() if path.is_file() else None
        for path in scenario.start.rglob("*")
    }
    count = 0

    for operation, done in scenario.each_failing(command, errno.EIO):
        count += 1
        context = (operation, done)
        found = holds()

        if done.code == 0:
            assert (whole.out, b"") == (done.out, done.err), context
            assert after == found, context
            continue
        assert done.code in (3, 5, 6), context
        assert b"" == done.out, context
        assert 1 == len(done.message.splitlines()), context
        assert done.message.startswith("soupctl: "), context
        if "is the sum of a replaced soup, and is not removed" in done.message:
            # said, since the soup has its name by then
            assert found.items() >= after.items(), context
        else:
            assert before == found, context
        words = ("cannot be read", "cannot be written", "changed while", "is not ")
        assert any(each in done.message for each in words), context
    record_property("faults", count)


@pytest.mark.parametrize("command", ASKING.values(), ids=ASKING)
def test_a_read_that_fails_gives_no_false_answer(
    scenario, holds, command, record_property: Counter
):
    whole = scenario.run(command)
    before = holds()
    count = 0

    for operation, done in scenario.each_failing(command, errno.EIO):
        count += 1
        context = (operation, done)

        assert before == holds(), context
        if done.code == 0:
            assert whole == done, context
        elif done.code == 1:
            # what cannot be read refutes nothing
            assert done.text.startswith("UNPROVEN: "), context
            assert "cannot be read: Input/output error" in done.text, context
        else:
            assert done.code in (3, 6), context
            assert b"" == done.out, context
            assert 1 == len(done.message.splitlines()), context
            words = ("cannot be read: Input/output error", "changed while it was read")
            assert any(each in done.message for each in words), context
    record_property("faults", count)


@pytest.mark.parametrize("command", [*MAKING.values(), SHARDS, DELTA], ids=" ".join)
def test_reads_that_stop_short_are_continued(scenario, holds, command):
    whole = scenario.run(command)
    after = holds()

    done = scenario.run(command, SHIM_SHORT=3)

    assert (whole, after) == (done, holds())


@pytest.mark.parametrize("command", [SHARDS, ASKING["proof"]], ids=" ".join)
def test_reads_that_a_signal_breaks_off_are_made_again(scenario, holds, command):
    whole = scenario.run(command)
    after = holds()
    done = [(each, holds()) for _, each in scenario.each_failing(command, errno.EINTR, "read ")]

    assert [(whole, after)] * len(done) == done
    assert len(done) > 5


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_locked_is_written_to_all_the_same(scenario, holds, error):
    command = MAKING["a soup in place"]
    whole = scenario.run(command)
    after = holds()
    locks = [(each, holds()) for _, each in scenario.each_failing(command, error, "lock ")]

    assert [(whole, after)] * len(locks) == locks
    assert locks


def test_memory_that_the_system_lacks_for_a_read_is_a_limit(scenario, holds):
    before = holds()
    ends = {
        (done.code, done.message)
        for _, done in scenario.each_failing(SHARDS, errno.ENOMEM, "read ")
    }

    advice = "--max-memory or --threads 1 needs less"
    assert {(7, f"soupctl: out of memory ({advice})\n")} == ends
    assert before == holds()
