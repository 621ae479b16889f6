"""A stream as an input: spooled to an unnamed file, and believed no more than any other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from processes import started

from soupctl.checkpoints.safetensors import SafetensorsFile, read_header, spool_stream
from soupctl.errors import InputError, OutputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two tensors, as the library writes it."""
    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.array([7, 8], dtype=np.uint8)}
    safetensors.numpy.save_file(arrays, tmp_path / "a.st", {"format": "pt"})
    return tmp_path / "a.st"


def contents(file: SafetensorsFile) -> dict[str, bytes]:
    return {tensor.name: bytes(file.stored(tensor).read()) for tensor in file.header.tensors}


EXPECTED = {"a": np.arange(3, dtype=np.float32).tobytes(), "b": b"\7\10"}


def stream(*parts: bytes) -> int:
    """A pipe that gives these parts, one after the other."""
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for part in parts:
                try:
                    pipe.write(part)
                except BrokenPipeError:
                    return

    threading.Thread(target=feed).start()
    return reader


def spooled(folder: Path, *parts: bytes) -> SafetensorsFile:
    fd = stream(*parts)
    try:
        return spool_stream(fd, "standard input", folder)
    finally:
        os.close(fd)


def test_a_stream_is_read_like_a_file(path, tmp_path):
    raw = path.read_bytes()

    with spooled(tmp_path, raw[:5], raw[5:20], raw[20:-1], raw[-1:]) as file:
        assert contents(file) == EXPECTED
        assert file.header == read_header(path)
        file.require_unchanged()
        assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cut", "what"),
    [
        (0, "is empty"),
        (5, "has 5 bytes, too few"),
        (20, "ends within its header"),
        (-1, "ends after"),
    ],
)
def test_a_stream_that_ends_early_is_refused(cut, what, path, tmp_path):
    with pytest.raises(InputError, match=f"^standard input: {what}"):
        spooled(tmp_path, path.read_bytes()[:cut])

    assert [path] == list(tmp_path.iterdir())


def test_a_stream_that_goes_on_is_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"^standard input: has more data than the"):
        spooled(tmp_path, path.read_bytes(), b"x")


def test_an_endless_stream_is_refused_at_once(tmp_path):
    with (
        started("yes", stdout=subprocess.PIPE) as endless,
        pytest.raises(InputError, match="is text, not safetensors"),
    ):
        spool_stream(endless.stdout.fileno(), "standard input", tmp_path)


def test_a_stream_that_the_disk_cannot_hold_is_refused(tmp_path):
    header = b'{"a":{"dtype":"U8","shape":[8796093022208],"data_offsets":[0,8796093022208]}}'

    with pytest.raises(OutputError, match=r"needs 8796093022293 bytes of disk"):
        spooled(tmp_path, len(header).to_bytes(8, "little") + header + bytes(100))

    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_is_missing_is_an_error_that_names_it(path, tmp_path):
    with pytest.raises(OutputError, match="missing: cannot be written: No such file"):
        spooled(tmp_path / "missing", path.read_bytes())


def test_a_closed_stream_is_refused(tmp_path):
    script = (
        "from soupctl.checkpoints.safetensors import spool_stream\n"
        "try: spool_stream(0)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "UnreadableError standard input: cannot be read: Bad file descriptor\n"
