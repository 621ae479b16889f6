"""Opening files: what is read, what is refused without waiting, and what counts as changed."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from soupctl.errors import InputError, OutputError
from soupctl.storage.regular import read_small
from soupctl.storage.safetensors import SafetensorsFile, open_safetensors, read_header, spool_stream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two tensors, as the library writes it."""
    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.array([7, 8], dtype=np.uint8)}
    safetensors.numpy.save_file(arrays, tmp_path / "a.st", {"format": "pt"})
    return tmp_path / "a.st"


def descriptors() -> int:
    """How many descriptors this process holds."""
    return len(list(Path("/dev/fd").iterdir()))


def contents(file: SafetensorsFile) -> dict[str, bytes]:
    return {tensor.name: bytes(file.view(tensor)) for tensor in file.header.tensors}


EXPECTED = {"a": np.arange(3, dtype=np.float32).tobytes(), "b": b"\7\10"}


def test_what_the_library_writes_is_read(path):
    with open_safetensors(path) as file:
        assert contents(file) == EXPECTED
        assert file.header.metadata == {"format": "pt"}
        assert file.header.file_size == path.stat().st_size


def test_an_open_file_holds_no_descriptor(path):
    before = descriptors()

    with open_safetensors(path), open_safetensors(path):
        assert descriptors() == before


def test_a_refused_file_holds_no_descriptor(path):
    before = descriptors()
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(InputError):
        open_safetensors(path)

    assert descriptors() == before


def test_a_file_through_a_link_is_read(path, tmp_path):
    (tmp_path / "link.st").symlink_to("a.st")

    with open_safetensors(tmp_path / "link.st") as file:
        assert contents(file) == EXPECTED


def test_only_the_header_can_be_read(path):
    with open_safetensors(path, map=False) as file:
        assert file.header == read_header(path)
        with pytest.raises(ValueError, match="not mapped"):
            file.view(file.header.tensors[0])


def test_messages_call_the_file_what_the_caller_calls_it(path):
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


class Bomb:
    """Unpickled, it leaves a mark."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def torch_archive() -> bytes:
    with zipfile.ZipFile("archive", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    return Path("archive").read_bytes()


FOREIGN = {
    "is a pickle": lambda: pickle.dumps(Bomb(), 2),
    "is a pickle, too": lambda: pickle.dumps(Bomb(), 4) + bytes(1000),
    "is a zip archive": torch_archive,
    "is a git-lfs pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "begins like a web page": lambda: b"\n<!DOCTYPE html><html>Access denied</html>",
    "is a GGUF file": lambda: b"GGUF\3\0\0\0" + bytes(100),
    "is gzip-compressed": lambda: b"\x1f\x8b\x08\0" + bytes(100),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_called_what_it_is_and_never_run(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").write_bytes(FOREIGN[kind]())

    with pytest.raises(InputError, match=rf"^a\.safetensors: {kind.partition(',')[0]}"):
        open_safetensors(Path("a.safetensors"))

    assert not Path("exploded").exists()


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(tmp_path):
    text = b"{}".ljust(0x280)
    (tmp_path / "a.st").write_bytes(len(text).to_bytes(8, "little") + text)
    assert (tmp_path / "a.st").read_bytes()[:2] == b"\x80\x02"

    assert read_header(tmp_path / "a.st").tensors == ()


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
    with pytest.raises(InputError, match=r"^standard input: goes on after the"):
        spooled(tmp_path, path.read_bytes(), b"x")


def test_an_endless_stream_is_refused_at_once(tmp_path):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        with pytest.raises(InputError, match="claims a header of"):
            spool_stream(endless.stdout.fileno(), "standard input", tmp_path)
        endless.kill()


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_stream_is_called_what_it_is(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=f"^standard input: {kind.partition(',')[0]}"):
        spooled(tmp_path, FOREIGN[kind]())


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
        "from soupctl.storage.safetensors import spool_stream\n"
        "try: spool_stream(0)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "InputError standard input: cannot be read: Bad file descriptor\n"


def test_a_small_file_is_read_whole(tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")

    assert read_small(tmp_path / "config.json", "config.json") == b"{}"


def test_a_small_file_that_is_large_is_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(bytes(11))

    with pytest.raises(InputError, match=r"^config\.json: has 11 bytes, too many"):
        read_small(tmp_path / "config.json", "config.json", limit=10)


def test_a_small_file_that_is_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "config.json")

    with pytest.raises(InputError, match=r"^config\.json: is a FIFO"):
        read_small(tmp_path / "config.json", "config.json")
