"""A whole command whose output is large enough to be written to disk early, on a disk that fails.

Rule 1: early write-back begins well, and its failure shows only in a later sync, as a real disk
reports it: the shim (tests/fault/shim.c) makes that sync fail.
Rule 2: what had an output before has it still, and what had none has none.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from soupctl.storage.writeback import WINDOW

ELEMENTS = WINDOW + 1000
"""Elements of one tensor in float16: the output is a little longer than two windows."""
OUTPUTS = {
    "a file": ("-o", "soup.st"),
    "a folder": ("-o", "soup", "--shard-size", "1G"),
    "a soup with its sum": ("-o", "soup.st", "--keep-sum"),
}


@pytest.fixture
def run(shim_server, soupctl, folder, tmp_path, arguments, replaced):
    """Runs the command under a fault; gives how it ended, and what it did with files."""
    soupctl.server = shim_server
    log = tmp_path / "log"
    for number, name in enumerate("ab"):
        save_one(folder / f"{name}.st", number, ELEMENTS)
    if replaced:
        save_one(folder / "small.st", 0, 4)
        soupctl("avg", "small.st", *arguments)
        (folder / "small.st").unlink()
        shutil.copytree(folder, tmp_path / "old", ignore=shutil.ignore_patterns("[ab].st"))

    def under(**fault: object):
        for path in folder.glob("soup*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if replaced:
            shutil.copytree(tmp_path / "old", folder, dirs_exist_ok=True)
        log.write_bytes(b"")
        faults = {name: str(value) for name, value in fault.items()}
        faults |= {"SHIM_ROOT": str(folder), "SHIM_LOG": str(log)}
        done = soupctl("avg", "a.st", "b.st", *arguments, "-f", "-j1", environment=faults)
        return done, [line.split()[0] for line in log.read_text().splitlines()]

    return under


def save_one(path: Path, value: int, elements: int) -> None:
    """Write a checkpoint with one tensor in float16."""
    header = b'{"w":{"dtype":"F16","shape":[%d],"data_offsets":[0,%d]}}' % (elements, 2 * elements)
    header += b" " * (-len(header) % 8)
    data = np.full(elements, value, np.float16).tobytes()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def outputs(folder: Path) -> dict[str, bytes | None]:
    """All files but the ingredients, with their bytes; None for folders."""
    paths = [path for path in folder.rglob("*") if path.name not in ("a.st", "b.st")]
    return {str(path): None if path.is_dir() else path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("arguments", "replaced"),
    [*((each, False) for each in OUTPUTS.values()), (OUTPUTS["a file"], True)],
    ids=[*OUTPUTS, "a file replaced"],
)
def test_what_fails_on_its_way_to_the_disk_is_an_error_and_publishes_nothing(
    run, folder, record_property
):
    before = outputs(folder)
    done, operations = run()
    assert 0 == done.code, done.message
    assert outputs(folder) != before
    begun = [number for number, each in enumerate(operations, 1) if each == "writeback"]
    synced = [number for number, each in enumerate(operations, 1) if each == "sync"]
    assert len(begun) >= 2
    # the first sync is of data; folders are synced when the output has its name
    data = next(number for number in synced if number > begun[-1])
    faults = [
        (data, errno.EIO),
        (data, errno.ENOSPC),
        (begun[0], errno.EIO),
        (begun[-1], errno.EIO),
    ]
    record_property("faults", len(faults))

    for number, error in faults:
        done, attempted = run(SHIM_AT=number, SHIM_ERRNO=error)

        assert 6 == done.code, (number, done)
        assert 1 == len(done.message.splitlines()), done.message
        assert outputs(folder) == before, operations[number - 1]
        # a sync that failed is not tried again: the system may have dropped what it could not write
        if number == data:
            assert operations[:data] == attempted[:data]
            assert "sync" not in attempted[data:]
