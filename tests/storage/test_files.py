"""Files read, written and copied whole, and the room that they need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soupctl.errors import InputError, OutputError
from soupctl.storage.atomic import publish_bytes, publish_folder
from soupctl.storage.files import (
    PIECE,
    copy_file,
    free_space,
    read_file,
    read_json,
    require_room,
    write_file,
)


def copied(source: Path, target: Path) -> bytes:
    """The bytes of the copy of a file, made in the new folder `target`."""
    with publish_folder(target, replace=False, may_replace=Path.exists) as staging:
        copy_file(staging, "copy", source)
    return (target / "copy").read_bytes()


def no_two_pieces_alike(size: int) -> bytes:
    """Bytes of which no two mebibytes are the same, nor end in the same byte."""
    numbers = range(-(-size // 8))
    return b"".join(number.to_bytes(8, "big") for number in numbers)[:size]


def shorten_at(monkeypatch: pytest.MonkeyPatch, path: Path, offset: int) -> None:
    """Make another process cut the file at `path` when it is read from that offset on."""
    real = os.pread

    def pread(fd: int, size: int, start: int) -> bytes:
        if start >= offset:
            os.truncate(path, offset)
        return real(fd, size, start)

    monkeypatch.setattr(os, "pread", pread)


def test_a_small_file_is_read_whole(tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")

    assert read_file(tmp_path / "config.json", "config.json") == b"{}"


def test_a_small_file_that_is_large_is_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(bytes(11))

    with pytest.raises(InputError, match=r"^config\.json: has 11 bytes, .* at most 10$"):
        read_file(tmp_path / "config.json", "config.json", limit=10)


def test_a_small_file_that_is_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "config.json")

    with pytest.raises(InputError, match=r"^config\.json: is a FIFO"):
        read_file(tmp_path / "config.json", "config.json")


def test_a_file_that_shortens_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_bytes(bytes(100))
    shorten_at(monkeypatch, tmp_path / "config.json", 0)

    with pytest.raises(OutputError, match=r"config\.json: changed while it was read$"):
        read_file(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "expected an object"),
        ('{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        ('{"a": NaN}', "NaN is not JSON"),
    ],
)
def test_json_that_is_not_one_sound_object_is_refused(tmp_path, text, problem):
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(InputError, match=rf"config\.json: is not a valid config: .*{problem}"):
        read_json(tmp_path / "config.json", "config")


def test_a_json_object_is_read_from_a_file(tmp_path):
    (tmp_path / "config.json").write_text('{"a": [1]}')

    assert {"a": [1]} == read_json(tmp_path / "config.json")


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE + 12345])
def test_a_copy_of_any_size_is_equal_byte_for_byte(tmp_path, size):
    data = no_two_pieces_alike(size)
    (tmp_path / "source").write_bytes(data)

    assert data == copied(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("offset", [0, PIECE, 2 * PIECE])
def test_a_file_that_shortens_while_it_is_copied_is_refused(tmp_path, monkeypatch, offset):
    source = tmp_path / "source"
    source.write_bytes(bytes(2 * PIECE + 100))
    shorten_at(monkeypatch, source, offset)

    with pytest.raises(OutputError, match=r"source: changed while it was read$"):
        copied(source, tmp_path / "out")

    assert 6 == OutputError.exit_code
    assert not (tmp_path / "out").exists()


def test_only_a_regular_file_is_copied(tmp_path):
    os.mkfifo(tmp_path / "source")

    with pytest.raises(InputError, match="source: is a FIFO"):
        copied(tmp_path / "source", tmp_path / "out")


def test_a_written_file_holds_the_given_bytes(tmp_path):
    with publish_folder(tmp_path / "out", replace=False, may_replace=Path.exists) as staging:
        write_file(staging, "sub/a.json", b"{}")
    publish_bytes(tmp_path / "b.json", b"[]", replace=False)

    assert b"{}" == (tmp_path / "out/sub/a.json").read_bytes()
    assert b"[]" == (tmp_path / "b.json").read_bytes()


def test_an_output_larger_than_the_free_space_is_refused_with_both_sizes(tmp_path, monkeypatch):
    state = os.statvfs(tmp_path)
    full = os.statvfs_result((4096, 4096, 1000, 5, 5, *tuple(state)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)

    assert 5 * 4096 == free_space(tmp_path)
    require_room(tmp_path / "out", 5 * 4096)
    require_room(tmp_path / "out", 6 * 4096, reusable=4096)
    with pytest.raises(OutputError, match="out: needs 20481 bytes of disk space, and 20480 are"):
        require_room(tmp_path / "out", 5 * 4096 + 1)


def test_a_file_system_that_does_not_tell_its_size_is_not_asked_for_room(tmp_path, monkeypatch):
    state = os.statvfs(tmp_path)
    silent = os.statvfs_result((4096, 4096, 0, 0, 0, *tuple(state)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: silent)

    assert free_space(tmp_path) is None
    require_room(tmp_path / "out", 1 << 60)
