"""Several commands that write one output at once: no change is lost, and no foreign sum is left.

Rule 1: renames are slow, as on a loaded network file system; only the disk is a fake.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from keeping import sum_of, sums_of
from making import save, save_pipeline
from revising import average, revise

from soupctl.checkpoints.open import find_input, open_input
from soupctl.errors import OutputError
from soupctl.ledger.read import read_ledger
from soupctl.storage import renameat

SOUP = Path("soup.st")


@pytest.fixture(autouse=True)
def slow_renames(tmp_path, monkeypatch):
    """Checkpoints a to d in the working folder, and renames that take a while."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abcd"):
        save(Path(f"{name}.st"), w=np.float32([number, number**2, 1]))
        save_pipeline(Path(name), number)
    replace, rename = os.replace, renameat._rename2

    def slowly(call: Callable[..., object]) -> Callable[..., object]:
        def slow(*arguments: object, **options: object) -> object:
            time.sleep(0.2)
            return call(*arguments, **options)

        return slow

    monkeypatch.setattr(os, "replace", slowly(replace))
    monkeypatch.setattr(renameat, "_rename2", slowly(rename))


def ingredients(soup: str) -> set[str]:
    """The names of the ingredients of a soup's last component, without suffix."""
    with open_input(find_input(soup).components[-1]) as checkpoint:
        return {Path(entry.name).stem for entry in read_ledger(checkpoint).ingredients}


def at_once(*changes: Callable[[], object]) -> list[OutputError | None]:
    """The error of each change, or None, when all run at once."""
    errors: list[OutputError | None] = [None] * len(changes)

    def run(number: int) -> None:
        try:
            changes[number]()
        except OutputError as error:
            errors[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(changes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize(("soup", "ending"), [("soup.st", ".st"), ("soup", "")])
@pytest.mark.parametrize("keep_sum", [False, True])
def test_two_removals_in_place_both_count_or_one_is_refused(soup, ending, keep_sum):
    average(Path(soup), *(name + ending for name in "abcd"), keep_sum=keep_sum)

    def removal(name: str) -> Callable[[], object]:
        return lambda: revise("subtract", soup, Path(soup), (), [name + ending], force=True)

    errors = at_once(removal("a"), removal("b"))

    removed = {name for name, error in zip("ab", errors, strict=True) if error is None}
    assert removed
    assert set("abcd") - removed == ingredients(soup)
    for error in errors:
        assert error is None or (6, True) == (error.exit_code, "changed while" in error.message())
    assert ([sum_of(Path(soup))] if keep_sum else []) == sums_of(Path(soup))


def test_two_averages_to_one_output_leave_the_sum_of_the_soup_that_is_there():
    def averaging(*names: str) -> Callable[[], object]:
        return lambda: average(SOUP, *names, keep_sum=True, force=True)

    for _ in range(3):
        errors = at_once(averaging("a.st", "b.st"), averaging("c.st", "d.st"))

        assert [None, None] == errors
        assert [sum_of(SOUP)] == sums_of(SOUP)
