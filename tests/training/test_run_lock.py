"""The lock on a run's folder ends with the process that trains."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from soupctl.errors import OutputError
from soupctl.training.run_lock import leave_locks, locked_run

MAIN = SimpleNamespace(is_main_process=True)


def test_a_folder_is_locked_against_other_runs(tmp_path):
    with (
        locked_run(tmp_path, MAIN),
        pytest.raises(OutputError, match="is in use by another run"),
        locked_run(tmp_path, MAIN),
    ):
        pass
    with locked_run(tmp_path, MAIN):
        pass


def test_a_worker_that_outlives_the_training_does_not_keep_the_lock(tmp_path):
    ready, tell = os.pipe()
    wait, end = os.pipe()
    with locked_run(tmp_path, MAIN):
        child = os.fork()
        if child == 0:
            try:
                os.close(end)
                leave_locks()
                os.write(tell, b"x")
                os.read(wait, 1)
            finally:
                os._exit(0)
        assert os.read(ready, 1) == b"x"
        # the lock is still that of this process
        with pytest.raises(OutputError), locked_run(tmp_path, MAIN):
            pass

    with locked_run(tmp_path, MAIN):
        os.close(end)
        assert os.waitpid(child, 0) == (child, 0)
    for each in (ready, tell, wait):
        os.close(each)
