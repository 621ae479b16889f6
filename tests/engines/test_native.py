"""Compiled kernels are kept where the user wants them, and used only if they are whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config, types
from processes import started

from soupctl import kernels
from soupctl.engines import native

SIGNATURE = types.int64(types.int64)

AVERAGE = """
from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.format.dtypes import DType
out = bytearray(2)
mean = WeightedMean((DType.F16,), (1,), DType.F16)
CpuEngine().prepare(mean, [memoryview(b"ab")])(0, 1, memoryview(out))
print(out.decode())
"""


def twice(value):
    return value * 2


def compile_twice(root, monkeypatch):
    """Compile or load a kernel kept below `root`; whether it was loaded."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(root))
    native.native_address.__wrapped__(twice, SIGNATURE)
    function = native.ALIVE[-1]
    assert 42 == function.ctypes(21)
    return function.cache_hits == 1


def kept_files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_the_next_process_loads_the_compiled_kernels(tmp_path, monkeypatch):
    first = compile_twice(tmp_path, monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in kept_files(tmp_path)}
    second = compile_twice(tmp_path, monkeypatch)

    assert (False, True) == (first, second)
    assert before == {path: path.stat().st_mtime_ns for path in kept_files(tmp_path)}


def test_only_compiling_is_announced(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="soupctl")
    compile_twice(tmp_path, monkeypatch)
    compile_twice(tmp_path, monkeypatch)

    assert [native.COMPILING] == caplog.messages


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "one bit"])
def test_a_damaged_file_leads_to_compiling_anew(tmp_path, monkeypatch, which, damage):
    compile_twice(tmp_path, monkeypatch)
    files = kept_files(tmp_path)
    path = files[which]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged = {"empty": b"", "garbage": b"\x80garbage" * 100, "one bit": bytes(raw)}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])

    assert 3 == len(files)
    assert not compile_twice(tmp_path, monkeypatch)
    assert compile_twice(tmp_path, monkeypatch)


def test_other_sources_tools_or_signatures_are_other_entries(monkeypatch):
    one = native.entry_name(twice, SIGNATURE)
    other = native.entry_name(twice, types.int32(types.int32))
    monkeypatch.setattr(native, "toolchain", lambda: "another processor")

    assert 3 == len({one, other, native.entry_name(twice, SIGNATURE)})


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)

    assert not compile_twice(tmp_path / "file", monkeypatch)
    assert [tmp_path / "file"] == kept_files(tmp_path)


def test_kernels_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert tmp_path / ".cache" / "soupctl" / "numba" == native.cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert tmp_path / "xdg" / "soupctl" / "numba" == native.cache_folder()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert tmp_path / "named" / "soupctl" == native.cache_folder()


def test_the_settings_of_numba_are_left_as_they_were(tmp_path, monkeypatch):
    before = config.CACHE_DIR
    compile_twice(tmp_path, monkeypatch)

    assert before == config.CACHE_DIR
    assert str(tmp_path) == os.environ["NUMBA_CACHE_DIR"]


def test_processes_that_start_at_once_do_not_disturb_each_other(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    (tmp_path / "here").mkdir()
    command = (sys.executable, "-c", AVERAGE)
    settings = {"env": environment, "cwd": tmp_path / "here", "stdout": subprocess.PIPE}
    with started(*command, **settings) as one, started(*command, **settings) as other:
        assert [b"ab\n"] * 2 == [process.communicate()[0] for process in (one, other)]

    assert [] == kept_files(tmp_path / "here")
    room = Path(next(iter(kernels.__path__)))
    assert [] == [path for path in room.rglob("*") if path.suffix in (".nbi", ".nbc")]
