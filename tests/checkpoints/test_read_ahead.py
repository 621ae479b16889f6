"""Ranges that are read ahead of need: in which blocks, how many requests, and that they are right.

Rule 1: files are fakes that count what they are asked for; sizes are those of real models, divided
by 1,024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from threading import Lock

import pytest

from soupctl.checkpoints.remote import read_ahead
from soupctl.checkpoints.remote.blocks import blocks
from soupctl.checkpoints.remote.room import ROOM, Room

CHUNK = 512
"""Bytes that are read at a time."""
PATTERN = bytes(range(251)) * 100


def data(start: int, stop: int) -> bytes:
    """What files hold there."""
    return PATTERN[start % 251 :][: stop - start]


class BytesElsewhere:
    """Bytes of a file, and what was asked for."""

    address = hint = "held"

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[tuple[int, int]] = []
        self.fails = 0
        """How many of the next requests fail."""

    def read(self, start: int, stop: int) -> bytes:
        self.asked.append((start, stop))
        if self.fails:
            self.fails -= 1
            raise OSError("cut")
        return data(start, stop)

    def is_unchanged(self) -> bool:
        return True


class ReadModel:
    """A model in shards, each with tensors of some sizes, that is read in the order of names."""

    def __init__(self, shards: Sequence[Mapping[str, int]]) -> None:
        order = read_ahead.ReadOrder()
        self.files = [BytesElsewhere(sum(shard.values())) for shard in shards]
        self._places: dict[str, tuple[read_ahead.RangeReader, int, int]] = {}
        self.readers = []
        for file, shard in zip(self.files, shards, strict=True):
            spans = dict(zip(shard, pairwise(accumulate(shard.values(), initial=0)), strict=True))
            reader = read_ahead.RangeReader(file, spans, order)
            self.readers.append(reader)
            self._places |= {name: (reader, *span) for name, span in spans.items()}
        self.names = sorted(self._places)

    @property
    def requests(self) -> int:
        return sum(len(file.asked) for file in self.files)

    @property
    def fetched(self) -> int:
        return sum(stop - start for file in self.files for start, stop in file.asked)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def chunks(self, name: str, size: int = CHUNK) -> Iterator[tuple[int, int]]:
        _, start, stop = self._places[name]
        yield from ((at, min(at + size, stop)) for at in range(start, stop, size))

    def read(self, name: str, start: int, stop: int) -> None:
        buffer = bytearray(stop - start)
        self._places[name][0].read_into(memoryview(buffer), start)
        assert buffer == data(start, stop)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """The room, and all sizes of requests, divided by 1,024."""
    monkeypatch.setattr(read_ahead, "LARGEST_BLOCK", 4 << 10)
    monkeypatch.setattr(read_ahead, "SMALLEST_BLOCK", 256)
    monkeypatch.setattr(ROOM, "size", 60 << 10)
    assert ROOM.held == ROOM.orders == 0
    return ROOM


def read_together(models: Sequence[ReadModel], threads: int = 2, chunk: int = CHUNK) -> int:
    """Read all tensors of models of one layout, as a soup does; returns the most that was held."""
    most, lock = 0, Lock()

    def read(name: str) -> None:
        nonlocal most
        for start, stop in models[0].chunks(name, chunk):
            for model in models:
                model.read(name, start, stop)
            with lock:
                most = max(most, ROOM.held)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(read, name) for name in models[0].names]:
            done.result()
    for model in models:
        for reader in model.readers:
            reader.close()
    assert ROOM.held == ROOM.orders == 0
    return most


def layers(count: int, size: int) -> dict[str, int]:
    """Tensors whose order by name is not that in the file, by name with their bytes."""
    parts = {"attention": size // 2, "mlp": size - size // 2 - 8, "norm": 8}
    return {f"layers.{n}.{part}": each for n in range(count) for part, each in parts.items()}


def in_shards(tensors: Mapping[str, int], count: int) -> list[dict[str, int]]:
    """The tensors in shards, in the order of the model."""
    items = [*tensors.items()]
    each = -(-len(items) // count)
    return [dict(items[start : start + each]) for start in range(0, len(items), each)]


@pytest.mark.parametrize(
    ("models", "shards", "threads"), [(2, 1, 2), (2, 4, 2), (2, 4, 16), (3, 4, 2), (2, 40, 2)]
)
def test_requests_are_large_however_many_shards_are_open(
    models: int, shards: int, threads: int, room: Room
) -> None:
    every = [ReadModel(in_shards(layers(40, 16 << 10), shards)) for _ in range(models)]
    most = read_together(every, threads)
    assert most <= room.size + threads * 256
    for model in every:
        # where room is short, what a waiting thread needs may be let go, and asked for again
        most_fetched = model.size if threads == 2 else 1.02 * model.size
        assert model.size <= model.fetched <= most_fetched
        # at most 4 KiB each; shards end within a request, and the first of all are smaller
        smaller = 4 if threads > 2 else 1.5
        assert model.requests < smaller * model.size / (4 << 10) + shards


def test_room_is_shared_by_all_that_is_read_at_one_time(room: Room) -> None:
    many = [ReadModel([layers(2, 2000)]) for _ in range(300)]
    assert read_together(many, chunk=64) <= room.size + 2 * 256
    assert all(model.fetched == model.size for model in many)
    # 60 KiB are 102 bytes for each of two threads that reads 300 files
    assert sum(model.requests for model in many) < 1.5 * 300 * 4000 / 102


def test_what_is_open_and_not_read_takes_no_room(room: Room) -> None:
    idle = [ReadModel([layers(40, 16 << 10)]) for _ in range(8)]
    for model in idle:
        model.read("layers.0.norm", *next(model.chunks("layers.0.norm")))
    every = [ReadModel([layers(40, 16 << 10)]) for _ in range(2)]
    for name in every[0].names:
        for start, stop in every[0].chunks(name):
            for model in every:
                model.read(name, start, stop)
    assert all(model.fetched == model.size for model in every)
    assert sum(model.requests for model in every) < 1.5 * 2 * every[0].size / (4 << 10)
    for model in idle + every:
        for reader in model.readers:
            reader.close()


def test_tensors_that_are_left_out_do_not_fill_the_room(room: Room) -> None:
    model = ReadModel([layers(400, 8 << 10)])
    some = [name for name in model.names if name.endswith("attention")]
    for name in some:
        for span in model.chunks(name):
            model.read(name, *span)
    assert model.fetched < 0.52 * model.size
    assert model.requests < 1.5 * model.fetched / (4 << 10)
    (reader,) = model.readers
    reader.close()
    assert room.held == 0


def test_a_read_that_failed_is_made_again(room: Room) -> None:
    model = ReadModel([layers(2, 1000)])
    model.files[0].fails = 1
    with pytest.raises(OSError, match="cut"):
        model.read("layers.0.attention", 0, 100)
    model.read("layers.0.attention", 0, 100)
    read_together([model])


def test_blocks_follow_the_file_where_few_are_begun_at_one_time() -> None:
    together = [(0, 10), (100, 150), (10, 20), (150, 200)]
    assert blocks(together, 60) == [(0, (0, 20)), (1, (100, 160)), (3, (160, 200))]
    scattered = [(start * 37 % 100 * 10, start * 37 % 100 * 10 + 10) for start in range(100)]
    assert blocks(scattered, 50) == [*enumerate(scattered)]
    assert blocks([(0, 0), (0, 130)], 60) == [(1, (0, 60)), (1, (60, 120)), (1, (120, 130))]


def test_reads_in_any_order_are_right() -> None:
    held = BytesElsewhere(1000)
    first = data(0, 50)
    reader = read_ahead.RangeReader(held, {"w": (30, 1000)}, None, first)
    for start in (900, 30, 500, 30, 40):
        buffer = bytearray(100)
        reader.read_into(memoryview(buffer), start)
        assert buffer == data(start, start + 100)
    assert min(held.asked)[0] == 50
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_into(memoryview(buffer), 0)
