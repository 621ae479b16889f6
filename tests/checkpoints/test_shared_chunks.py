"""Several threads make the chunks of one tensor, and digest one tensor, as one thread would."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import numpy as np
import pytest
from making import save

from soupctl.checkpoints import hashing
from soupctl.checkpoints.hashing import content_digests
from soupctl.checkpoints.shared_chunks import ChunkWork, SharedChunks
from soupctl.errors import OutputError
from soupctl.storage import regular


@pytest.fixture
def large(tmp_path, monkeypatch):
    """The path of a checkpoint with a tensor of 40 pieces between two small ones."""
    monkeypatch.setattr(hashing, "PIECE", 64)
    monkeypatch.setattr(hashing, "LARGE", 1024)
    draw = np.random.default_rng(3)
    sizes = {"a": 20, "m": 64 * 39 + 5, "z": 7}
    arrays = {name: draw.integers(0, 256, size).astype(np.uint8) for name, size in sizes.items()}
    return save(tmp_path / "a.st", **arrays)


def test_a_digest_does_not_depend_on_threads(large, monkeypatch):
    told = []
    digests = {content_digests(large, threads=n, progress=told.append) for n in (1, 2, 5)}

    assert len(digests) == 1
    assert sum(told) == 3 * (20 + 64 * 39 + 5 + 7)


def test_a_file_that_becomes_shorter_has_no_digest(large, monkeypatch):
    preadv = regular.os.preadv

    def shorter(fd, buffers, offset):
        return 0 if offset > 1500 else preadv(fd, buffers, offset)

    monkeypatch.setattr(regular.os, "preadv", shorter)
    with pytest.raises(OutputError, match=r"a\.st: changed while it was read"):
        content_digests(large, threads=3)


class Chunks:
    """Two chunks of one element, each made by a thread of its own; what is recorded is kept."""

    def __init__(self) -> None:
        self.chunks = SharedChunks([(0, 1), (1, 2)])
        self.both_begun = Barrier(2, timeout=60)
        self.recorded: list[int] = []

    def run(self, make) -> list[object]:
        """What each of two threads returns or raises; `make` is called for each chunk."""

        def thread() -> object:
            last: list[int] = []

            def made(start: int, stop: int) -> int:
                self.both_begun.wait()
                last[:] = [start]
                return make(start) or 0

            work = ChunkWork(made, lambda: self.recorded.extend(last))
            try:
                return self.chunks.make([work], lambda size: None)
            except ValueError as error:
                return str(error)

        with ThreadPoolExecutor(2) as pool:
            return [each.result(60) for each in [pool.submit(thread) for _ in range(2)]]


def test_two_threads_make_chunks_at_once_and_record_them_in_order():
    second_is_made = Event()

    def make(chunk: int) -> None:
        if chunk == 0:
            assert second_is_made.wait(60)
        else:
            second_is_made.set()

    work = Chunks()
    found = work.run(make)
    assert sorted(found) == [False, True]
    assert work.recorded == [0, 1]


def test_the_first_chunk_that_fails_counts_even_if_another_fails_before():
    second_fails = Event()

    def make(chunk: int) -> None:
        if chunk == 0:
            assert second_fails.wait(60)
        second_fails.set()
        raise ValueError(f"chunk {chunk}")

    assert Chunks().run(make) == ["chunk 0"] * 2


def test_a_thread_that_waits_for_a_chunk_that_fails_ends_with_it():
    second_is_made = Event()

    def make(chunk: int) -> None:
        if chunk == 0:
            assert second_is_made.wait(60)
            raise ValueError("chunk 0")
        second_is_made.set()

    work = Chunks()
    assert work.run(make) == ["chunk 0"] * 2
    assert work.recorded == []
