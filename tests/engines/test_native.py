"""Compiled kernels are kept where the user wants them, and used only if they are whole."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from processes import started

from soupctl import kernels
from soupctl.engines import native
from soupctl.engines.addresses import address
from soupctl.engines.compilation import compiled_kernel

AVERAGE = """
import sys
from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.format.dtypes import DType
out = bytearray(2)
mean = WeightedMean((DType.F16,), (1,), DType.F16)
CpuEngine().prepare(mean, [memoryview(b"ab")])(0, 1, memoryview(out))
print(out.decode(), "numba" in sys.modules)
"""

COMPILER = "soupctl.engines.compilation.compiled_kernel"


def loads(root, monkeypatch):
    """Compile or load a kernel kept below `root`; whether it was loaded."""
    compiled = []

    def noted(*facts):
        compiled.append(facts)
        return compiled_kernel(*facts)

    with monkeypatch.context() as patched:
        patched.setenv("NUMBA_CACHE_DIR", str(root))
        patched.setattr(COMPILER, noted)
        place = native.native_address.__wrapped__("narrow.narrow")
    narrow = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)(place)
    source, out = np.array([0.5, 0.1]), np.zeros(2, np.float32)
    assert 1 == narrow(address(source), 2, address(out))
    assert [0.5, np.float32(0.1)] == out.tolist()
    return not compiled


def kept_files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_the_next_process_loads_the_compiled_kernels(tmp_path, monkeypatch):
    first = loads(tmp_path, monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in kept_files(tmp_path)}
    second = loads(tmp_path, monkeypatch)

    assert (False, True) == (first, second)
    assert before == {path: path.stat().st_mtime_ns for path in kept_files(tmp_path)}


def test_only_compiling_is_announced(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="soupctl")
    loads(tmp_path, monkeypatch)
    loads(tmp_path, monkeypatch)

    assert [native.COMPILING] == caplog.messages


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "one bit"])
def test_a_damaged_file_leads_to_compiling_anew(tmp_path, monkeypatch, damage):
    loads(tmp_path, monkeypatch)
    (path,) = kept_files(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged = {"empty": b"", "garbage": b"\x80garbage" * 100, "one bit": bytes(raw)}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])

    assert not loads(tmp_path, monkeypatch)
    assert loads(tmp_path, monkeypatch)


def test_other_sources_tools_or_kinds_are_other_entries(monkeypatch):
    one = native.entry_name("sums.add_bounded", ("F16",))
    other = native.entry_name("sums.add_bounded", ("F32",))
    monkeypatch.setattr(native, "toolchain", lambda: "another processor")

    assert 3 == len({one, other, native.entry_name("sums.add_bounded", ("F16",))})


@pytest.mark.parametrize("what", ["llvmlite.__version__", "compiler_version", "tables.__file__"])
def test_another_compiler_or_source_is_another_toolchain(what, tmp_path, monkeypatch):
    before = native.toolchain.__wrapped__()
    (tmp_path / "other.py").write_text("x = 1")
    other = {"compiler_version": lambda: "other", "tables.__file__": str(tmp_path / "other.py")}
    monkeypatch.setattr(f"soupctl.engines.native.{what}", other.get(what, "0"))

    assert before != native.toolchain.__wrapped__()


def test_the_version_of_the_compiler_is_known_without_loading_it():
    assert f'"{numba.__version__}"' in native.compiler_version()


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)

    assert not loads(tmp_path / "file", monkeypatch)
    assert [tmp_path / "file"] == kept_files(tmp_path)


def test_kernels_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert tmp_path / ".cache" / "soupctl" / "kernels" == native.cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert tmp_path / "xdg" / "soupctl" / "kernels" == native.cache_folder()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert tmp_path / "named" / "soupctl" == native.cache_folder()


def test_kept_kernels_are_run_without_loading_the_compiler(tmp_path):
    command = (sys.executable, "-c", AVERAGE)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    printed = [subprocess.check_output(command, env=environment) for _ in range(2)]

    assert [b"ab True\n", b"ab False\n"] == printed


def test_processes_that_start_at_once_do_not_disturb_each_other(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    (tmp_path / "here").mkdir()
    command = (sys.executable, "-c", AVERAGE)
    settings = {"env": environment, "cwd": tmp_path / "here", "stdout": subprocess.PIPE}
    with started(*command, **settings) as one, started(*command, **settings) as other:
        assert [b"ab True\n"] * 2 == [process.communicate()[0] for process in (one, other)]

    assert [] == kept_files(tmp_path / "here")
    room = Path(next(iter(kernels.__path__)))
    assert [] == [path for path in room.rglob("*") if path.suffix in (".nbi", ".nbc")]
