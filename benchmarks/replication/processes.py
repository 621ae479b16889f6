"""The tasks of a study, several at once, each in a process forked from this one.

Rule 1: tasks of a group may need the same models, and would wait for each other. So a task is
begun while none of its group runs, if there is such a one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from replication.work import Work


@dataclass(frozen=True, slots=True)
class StudyTask:
    """Something to compute."""

    name: Hashable
    group: Hashable
    compute: Callable[[], Any]
    """Gives what JSON can hold."""


def results_of(tasks: Sequence[StudyTask], work: Work, jobs: int) -> Iterator[tuple[Any, Any]]:
    """The name and the result of each task, in the order in which they end.

    Raises RuntimeError if a process fails; the others are ended.
    """
    waiting = list(tasks)
    running: dict[Connection, tuple[StudyTask, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = next_of(waiting, [each for each, _ in running.values()])
                waiting.remove(task)
                place, process = _started(task, work)
                running[place] = task, process
            for place in wait(list(running)):
                task, process = running.pop(place)
                found, trained = _received(place, process, task)
                work.trained.update(trained)
                yield task.name, found
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def next_of(waiting: Sequence[StudyTask], running: Sequence[StudyTask]) -> StudyTask:
    """The task to begin while others run."""
    groups = {each.group for each in running}
    # the end of a group needs least of what its beginning makes
    return next((each for each in waiting if each.group not in groups), waiting[-1])


def _started(task: StudyTask, work: Work) -> tuple[Connection, BaseProcess]:
    here, there = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_computed, args=(task, work, there))
    process.start()
    there.close()
    return here, process


def _computed(task: StudyTask, work: Work, place: Connection) -> None:
    began = time.monotonic()
    found = json.dumps(task.compute())
    spent = os.times()
    seconds = spent.user + spent.system + spent.children_user + spent.children_system
    work.spend(str(task.name), time.monotonic() - began, seconds)
    place.send((found, work.trained))
    place.close()


def _received(
    place: Connection, process: BaseProcess, task: StudyTask
) -> tuple[Any, dict[str, Any]]:
    try:
        found, trained = place.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{task.name} failed, with exit code {process.exitcode}") from None
    process.join()
    return json.loads(found), trained
