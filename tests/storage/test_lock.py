"""Locks on folders: one holder at a time, none after a kill, and nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from soupctl.errors import OutputError
from soupctl.storage import lock
from soupctl.storage.lock import LOCK_NAME, locked

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom soupctl.storage.lock import locked\n"
    "with locked([Path(sys.argv[1])]): print('held', flush=True); time.sleep(600)\n"
)


@pytest.fixture(params=["folders", "files"])
def place(request, tmp_path, monkeypatch):
    """A folder, on a file system that locks folders, or only files as NFS does."""
    flock = fcntl.flock

    def only_files(fd: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(fd, operation)

    if request.param == "files":
        monkeypatch.setattr(lock.fcntl, "flock", only_files)
    return tmp_path


def test_a_lock_lasts_as_long_as_its_block_and_leaves_nothing(place):
    for _ in range(2):
        with locked([place, place / "."]):
            pass

    assert [] == list(place.iterdir())


def test_one_after_the_other_holds_a_lock(place):
    inside, most = [], []

    def hold() -> None:
        for _ in range(5):
            with locked([place]):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1] * 20 == most
    assert [] == list(place.iterdir())


def test_several_folders_in_any_order_do_not_block_each_other(place):
    one, other = place / "one", place / "other"
    one.mkdir()
    other.mkdir()

    def hold(*folders: Path) -> None:
        for _ in range(10):
            with locked(folders):
                pass

    threads = [threading.Thread(target=hold, args=each) for each in ((one, other), (other, one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [False, False] == [thread.is_alive() for thread in threads]


def test_a_lock_that_lasts_too_long_is_an_error(place, monkeypatch):
    monkeypatch.setattr(lock, "LONGEST_WAIT", 0.05)
    with (
        locked([place]),
        pytest.raises(OutputError, match="another process has locked this folder") as caught,
        locked([place]),
    ):
        pass

    assert 6 == caught.value.exit_code


def test_a_process_that_is_killed_holds_no_lock(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert "held\n" == holder.stdout.readline()
        holder.kill()
    with locked([tmp_path]):
        pass

    assert [] == list(tmp_path.iterdir())


def test_a_lock_file_that_a_killed_process_left_is_taken_and_removed(place):
    (place / LOCK_NAME).touch()
    with locked([place]):
        pass

    assert [] == [name for name in os.listdir(place) if name != LOCK_NAME]


def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with locked([tmp_path]):
        pass

    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_an_error_that_names_it(tmp_path):
    with (
        pytest.raises(OutputError, match="missing: cannot be written"),
        locked([tmp_path / "missing"]),
    ):
        pass
