"""Reading files in parts: errors instead of signals, and few descriptors however many files."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from open_files import open_files

from soupctl.errors import InputError, OutputError
from soupctl.storage import reader, regular
from soupctl.storage.reader import FileIdentity, FileReader

DATA = bytes(range(256)) * 4


def open_reader(path: Path) -> FileReader:
    return FileReader(path, path.name, FileIdentity.of(path.stat()))


def part(of: FileReader, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    of.read_into(memoryview(buffer), offset)
    return bytes(buffer)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.st").write_bytes(DATA)
    # so old that no clock, however coarse, gives a change the same time
    os.utime(tmp_path / "a.st", ns=(0, 0))
    return tmp_path / "a.st"


def limited(most: int) -> Callable[..., int]:
    """A `preadv` that reads at most `most` bytes at a time, as a slow disk may."""

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        (buffer,) = buffers
        data = os.pread(fd, min(most, len(buffer)), offset)
        buffer[: len(data)] = data
        return len(data)

    return preadv


def test_any_part_is_read(path):
    file = open_reader(path)

    assert DATA == part(file, 0, len(DATA))
    assert DATA[300:400] == part(file, 300, 100)
    assert b"" == part(file, 300, 0)
    file.close()


@pytest.mark.parametrize("most", [1, 7, 99])
def test_reads_that_stop_short_are_continued(most, path, monkeypatch):
    monkeypatch.setattr(regular.os, "preadv", limited(most))
    file = open_reader(path)

    assert DATA[5:305] == part(file, 5, 300)
    file.close()


def test_a_disk_that_fails_is_an_error_that_names_the_file(path, monkeypatch):
    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(regular.os, "preadv", preadv)
    file = open_reader(path)

    with pytest.raises(InputError, match=r"^a\.st: cannot be read: Input/output error$"):
        part(file, 0, 10)
    file.close()


def test_a_file_that_was_shortened_is_an_error_and_no_signal(path):
    file = open_reader(path)
    part(file, 0, 10)
    os.truncate(path, 300)

    assert DATA[:300] == part(file, 0, 300)
    with pytest.raises(OutputError, match=r"^a\.st: changed while it was read$"):
        part(file, 0, 301)
    file.close()


def test_a_file_that_was_replaced_before_it_is_opened_again_is_an_error(path):
    file = open_reader(path)
    path.with_name("b").write_bytes(DATA)
    path.with_name("b").replace(path)

    with pytest.raises(OutputError, match=r"^a\.st: changed while it was read$"):
        part(file, 0, 10)
    file.close()


def test_a_fifo_that_took_the_place_of_a_file_makes_nothing_wait(path):
    file = open_reader(path)
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(OutputError, match="changed while it was read"):
        part(file, 0, 10)
    file.close()


def test_a_file_that_is_gone_is_an_error(path):
    file = open_reader(path)
    path.unlink()

    with pytest.raises(InputError, match="cannot be read: No such file"):
        part(file, 0, 10)
    file.close()


def test_few_descriptors_stay_open_however_many_files_are_read(path):
    before = open_files()
    files = [open_reader(path) for _ in range(300)]

    assert {DATA[:9]} == {part(file, 0, 9) for file in files for _ in range(2)}
    assert open_files() - before <= reader.MOST_KEPT
    for file in files:
        file.close()
    assert open_files() == before


def test_a_closed_reader_makes_room_for_another_and_reads_nothing(path):
    before = open_files()
    for _ in range(3 * reader.MOST_KEPT):
        file = open_reader(path)
        part(file, 0, 9)
        assert open_files() == before + 1
        file.close()
        file.close()

    with pytest.raises(ValueError, match="closed"):
        part(file, 0, 9)


def test_a_forgotten_reader_holds_no_descriptor(path):
    before = open_files()
    for _ in range(3 * reader.MOST_KEPT):
        part(open_reader(path), 0, 9)

    assert open_files() == before


def test_several_threads_read_at_once(path):
    before = open_files()
    files = [open_reader(path) for _ in range(2 * reader.MOST_KEPT)]
    wrong = []

    def read() -> None:
        for turn in range(200):
            file = files[turn % len(files)]
            if part(file, turn, 500) != DATA[turn : turn + 500]:
                wrong.append(turn)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong
    for file in files:
        file.close()
    assert open_files() == before


def test_an_open_file_is_not_opened_again(path):
    fd = os.open(path, os.O_RDONLY)
    file = FileReader.of_open(fd, path, "a.st")
    os.close(fd)
    path.unlink()

    assert DATA[7:9] == part(file, 7, 2)
    file.close()


def test_a_file_without_a_name_is_read_and_closed(path):
    before = open_files()
    file = FileReader.of_unnamed(os.open(path, os.O_RDONLY), "standard input")
    path.unlink()

    assert DATA[7:9] == part(file, 7, 2)
    file.close()
    assert open_files() == before
