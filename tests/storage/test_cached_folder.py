"""Folders of the cache are made once, kept while they are used, and removed when unused."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from soupctl.errors import OutputError
from soupctl.storage import cached_folder as module
from soupctl.storage.cached_folder import PARTIAL, USED, cached_folder


@pytest.fixture(autouse=True)
def end_of_process(monkeypatch):
    """Does to locks what the end of this process does."""
    monkeypatch.setattr(module, "_in_use", {})

    def end() -> None:
        for fd in module._in_use.values():
            os.close(fd)
        module._in_use.clear()

    yield end
    end()


def make(place: Path) -> None:
    place.mkdir()
    (place / "x").write_text("made")


def kept(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_a_folder_is_made_once(tmp_path):
    made = []

    def count(place: Path) -> None:
        made.append(place)
        make(place)

    places = {cached_folder(tmp_path / "all/a", "in/b", count, 2) for _ in range(2)}

    assert places == {tmp_path / "all/a/in/b"}
    assert [(tmp_path / "all/a/in/b/x").read_text(), len(made)] == ["made", 1]


def test_those_that_were_used_last_are_kept(tmp_path, end_of_process):
    for number, name in enumerate("abca"):
        cached_folder(tmp_path / name, "b", make, 3)
        os.utime(tmp_path / name / USED, (number, number))
    end_of_process()

    cached_folder(tmp_path / "d", "b", make, 3)

    assert kept(tmp_path) == {"a", "c", "d"}


def test_one_that_is_in_use_is_kept_whatever_its_age(tmp_path, end_of_process):
    for number, name in enumerate("abc"):
        cached_folder(tmp_path / name, "b", make, 1)
        os.utime(tmp_path / name / USED, (number, number))

    assert kept(tmp_path) == {"a", "b", "c"}
    end_of_process()
    cached_folder(tmp_path / "b", "b", make, 1)
    assert kept(tmp_path) == {"b"}


def test_another_waits_for_the_one_that_makes_it_however_long_that_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("soupctl.storage.lock.LONGEST_WAIT", 0.0)
    begun, may_end = threading.Event(), threading.Event()

    def slowly(place: Path) -> None:
        begun.set()
        may_end.wait()
        make(place)

    found: list[Path] = []
    first = threading.Thread(target=lambda: cached_folder(tmp_path / "a", "b", slowly, 1))
    first.start()
    begun.wait()
    second = threading.Thread(
        target=lambda: found.append(cached_folder(tmp_path / "a", "b", pytest.fail, 1))
    )
    second.start()
    time.sleep(0.1)
    assert second.is_alive()
    may_end.set()
    first.join()
    second.join()

    assert found == [tmp_path / "a/b"]


def test_what_was_left_half_made_is_made_anew(tmp_path):
    def fail(place: Path) -> None:
        make(place)
        raise OutputError("disk full", path=place)

    with pytest.raises(OutputError, match="disk full"):
        cached_folder(tmp_path / "a", "b", fail, 1)
    # what fills a disk does not stay there
    assert kept(tmp_path / "a") == {USED}

    (tmp_path / "a" / PARTIAL / "b" / "old").mkdir(parents=True)
    assert (cached_folder(tmp_path / "a", "b", make, 1) / "x").read_text() == "made"
    assert kept(tmp_path / "a") == {USED, "b"}


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "all").write_text("a file")

    with pytest.raises(OutputError) as refused:
        cached_folder(tmp_path / "all/a", "b", make, 1)

    assert str(tmp_path / "all") in refused.value.message()
