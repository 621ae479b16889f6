"""Opening files: what is read, what is refused without waiting, and what counts as changed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from open_files import open_files

from soupctl.checkpoints.safetensors import SafetensorsFile, open_safetensors
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


def test_files_written_by_the_library_are_read(path):
    with open_safetensors(path) as file:
        assert contents(file) == EXPECTED
        assert file.header.metadata == {"format": "pt"}
        assert file.header.file_size == path.stat().st_size


def test_a_closed_file_holds_no_descriptor(path):
    before = open_files()

    with open_safetensors(path) as one, open_safetensors(path) as other:
        assert contents(one) == contents(other)

    assert open_files() == before


def test_a_refused_file_holds_no_descriptor(path):
    before = open_files()
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(InputError):
        open_safetensors(path)

    assert open_files() == before


def test_a_file_through_a_link_is_read(path, tmp_path):
    (tmp_path / "link.st").symlink_to("a.st")

    with open_safetensors(tmp_path / "link.st") as file:
        assert contents(file) == EXPECTED


def test_messages_name_the_file_as_the_caller_does(path):
    path.write_bytes(b"")

    with pytest.raises(InputError, match=r"^model \(a\): is empty$"):
        open_safetensors(path, "model (a)")


def test_an_unchanged_file_is_unchanged(path):
    with open_safetensors(path) as file:
        path.read_bytes()
        file.require_unchanged()


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def rewrite_and_hide_it(path: Path) -> None:
    state = path.stat()
    rewrite(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def swap(path: Path) -> None:
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("other").replace(path)


def link_elsewhere(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    "change",
    [rewrite, rewrite_and_hide_it, truncate, append, swap, Path.unlink, link_elsewhere],
)
def test_an_input_that_changes_is_an_error(change, path):
    # so old that no clock, however coarse, gives the change the same time
    os.utime(path, ns=(0, 0))
    with open_safetensors(path) as file:
        wait_for_the_clock(path)
        change(path)

        with pytest.raises(OutputError, match=r"a\.st: changed while it was read") as caught:
            file.require_unchanged()

    assert caught.value.exit_code == 6


def wait_for_the_clock(path: Path) -> None:
    """Return when a new file gets a later time than the last change of this one."""
    probe = path.with_name("probe")
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            return


def test_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.st")

    with pytest.raises(InputError, match=r"a\.st: is a FIFO, not a regular file"):
        open_safetensors(tmp_path / "a.st")


def test_a_socket_is_refused(tmp_path, monkeypatch):
    # the path of a socket must be short
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("a.st")

        with pytest.raises(InputError, match=r"a\.st: is a socket, not a regular file"):
            open_safetensors(Path("a.st"))


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_a_device_is_refused_without_opening_it(device):
    with pytest.raises(InputError, match=f"{device}: is a device, not a regular file"):
        open_safetensors(Path(device))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder, not a regular file"):
        open_safetensors(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.st: cannot be read: No such file or directory"):
        open_safetensors(tmp_path / "a.st")


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a.st").symlink_to("a.st")

    with pytest.raises(InputError, match=r"a\.st: cannot be read: Too many levels"):
        open_safetensors(tmp_path / "a.st")


@pytest.mark.parametrize("name", ["a\0b", "n" * 300, ""])
def test_a_name_that_cannot_be_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_safetensors(Path(name))


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_refused(path):
    path.chmod(0)

    with pytest.raises(InputError, match=r"a\.st: cannot be read: Permission denied"):
        open_safetensors(path)
