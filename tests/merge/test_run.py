"""Outputs are published in order, each checked, and errors name the output or source at fault."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from making import files, save
from revising import average

import soupctl.merge.kept_sum.publish
import soupctl.merge.output
import soupctl.merge.run
import soupctl.merge.sum_layouts
from soupctl import verbs
from soupctl.errors import InputError, LedgerError, LimitError, MismatchError, OutputError
from soupctl.verbs import ExecutionOptions, LeaveOneOut
from soupctl.workers import run_in_order

F16 = np.float16


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Checkpoints a, b and c in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(tmp_path / f"{name}.st", w=F16([number, 1, 2]))
    return tmp_path


def test_a_round_is_on_disk_before_its_first_output_has_a_name(place, monkeypatch):
    average(place / "soup.st", "a.st", "b.st", "c.st")
    there: list[list[Path]] = []
    sync = soupctl.merge.run.JobFiles.sync

    def recorded(output: object) -> None:
        there.append(list(Path().glob("loo-*")))
        sync(output)

    monkeypatch.setattr(soupctl.merge.run.JobFiles, "sync", recorded)
    verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))

    assert [[], [], []] == there
    assert 3 == len(list(Path().glob("loo-*")))


def test_an_output_that_cannot_be_written_is_named_among_several(place, monkeypatch):
    average(place / "soup.st", "a.st", "b.st", "c.st")
    writers: list[object] = []
    write = soupctl.merge.output.OutputWriter.write

    def failing(writer: object, *arguments: object) -> None:
        if writer not in writers:
            writers.append(writer)
        if writers.index(writer) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, *arguments)

    monkeypatch.setattr(soupctl.merge.output.OutputWriter, "write", failing)
    with pytest.raises(OutputError, match=r"^loo-b\.st: cannot be written: No space left"):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}.st"), execution=ExecutionOptions(1))


def test_an_input_that_changes_after_the_sum_is_named_leaves_neither_soup_nor_sum(
    place, monkeypatch
):
    name = soupctl.merge.kept_sum.publish.SumPublisher._name
    before = files(place)

    def changing(publisher: object) -> str:
        os.utime("a.st", ns=(1, 1))
        return name(publisher)

    monkeypatch.setattr(soupctl.merge.kept_sum.publish.SumPublisher, "_name", changing)
    with pytest.raises(OutputError, match=r"a\.st"):
        average(place / "soup.st", "a.st", "b.st", keep_sum=True)

    assert before == files(place)


@pytest.mark.parametrize("error", [InputError, MismatchError, LimitError])
def test_an_error_of_a_source_with_other_content_is_that_it_has_other_content(error):
    def require_sources() -> None:
        raise LedgerError("is not the content that the ledger records")

    component = SimpleNamespace(require_sources=require_sources)
    sound = SimpleNamespace(require_sources=lambda: None)
    with (
        pytest.raises(LedgerError),
        soupctl.merge.sum_layouts.source_errors_first([sound, component]),
    ):
        raise error("fails")
    with pytest.raises(error), soupctl.merge.sum_layouts.source_errors_first([sound]):
        raise error("fails")


def test_threads_stop_at_their_next_report_once_a_task_has_failed():
    ended: list[bool] = []

    def run(task: int, advance) -> None:
        if task == 0:
            time.sleep(0.05)
            raise ValueError("the first task")
        try:
            # minutes, if nothing stops it
            for _ in range(100_000):
                advance(1)
                time.sleep(0.001)
        except BaseException:
            ended.append(True)
            raise
        ended.append(False)

    with pytest.raises(ValueError, match="the first task"):
        list(run_in_order(run, range(2), ExecutionOptions(2)))

    assert [True] == ended
