"""Publishing: what is refused, what is kept, and who wins."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from open_files import open_files

from soupctl.errors import OutputError
from soupctl.storage.atomic import publish_file, publish_folder
from soupctl.storage.files import write_at


def put(target: Path, data: bytes, *, replace: bool = False) -> None:
    with publish_file(target, len(data), replace=replace) as fd:
        write_at(fd, data, 0)


def put_folder(target: Path, text: bytes, *, replace: bool = False, ours: bool = True) -> None:
    with publish_folder(target, replace=replace, may_replace=lambda path: ours) as staging:
        write_at(staging.create("sub/a.st", len(text)), text, 0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bits(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with files that have no name while they are written, and with named ones."""
    if not request.param:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_file_appears_whole(either_way, tmp_path):
    put(tmp_path / "out", b"soup")

    assert (tmp_path / "out").read_bytes() == b"soup"
    assert names(tmp_path) == ["out"]


def test_an_empty_file_can_be_published(either_way, tmp_path):
    put(tmp_path / "out", b"")

    assert (tmp_path / "out").read_bytes() == b""


def test_the_file_has_its_size_from_the_start_and_no_name_before_the_end(either_way, tmp_path):
    with publish_file(tmp_path / "out", 1000, replace=False) as fd:
        assert os.fstat(fd).st_size == 1000
        assert not (tmp_path / "out").exists()

    assert (tmp_path / "out").stat().st_size == 1000


def test_an_output_is_not_replaced_without_force(either_way, tmp_path):
    (tmp_path / "out").write_bytes(b"old")

    with pytest.raises(OutputError, match=r"out: exists \(force=True replaces it\)"):
        put(tmp_path / "out", b"new")

    assert (tmp_path / "out").read_bytes() == b"old"


def test_an_output_is_replaced_with_force(either_way, tmp_path):
    (tmp_path / "out").write_bytes(b"old")

    put(tmp_path / "out", b"new", replace=True)

    assert (tmp_path / "out").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


def test_permission_bits_follow_the_umask(either_way, umask, tmp_path):
    put(tmp_path / "out", b"soup")
    put_folder(tmp_path / "folder", b"soup")

    assert bits(tmp_path / "out") == 0o640
    assert bits(tmp_path / "folder") == 0o750
    assert bits(tmp_path / "folder/sub/a.st") == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_an_existing_outputs_permission_bits_are_kept(either_way, umask, tmp_path, mode):
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(mode)

    put(tmp_path / "out", b"new", replace=True)

    assert bits(tmp_path / "out") == mode


def test_a_link_is_followed_and_its_target_is_replaced(either_way, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/soup").write_bytes(b"old")
    (tmp_path / "out").symlink_to("real/soup")

    put(tmp_path / "out", b"new", replace=True)

    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real/soup").read_bytes() == b"new"
    assert names(tmp_path / "real") == ["soup"]


def test_a_link_that_leads_nowhere_is_filled(either_way, tmp_path):
    (tmp_path / "out").symlink_to("soup")

    put(tmp_path / "out", b"new")

    assert (tmp_path / "soup").read_bytes() == b"new"


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "out").symlink_to("out")

    with pytest.raises(OutputError, match="out: "):
        put(tmp_path / "out", b"new", replace=True)


@pytest.mark.parametrize("target", ["/dev/null", "/dev/full", ".", "/", "fifo", "folder"])
def test_an_irregular_file_is_never_replaced(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    Path("folder").mkdir()

    with pytest.raises(OutputError, match=r"is (a folder|not a regular file)"):
        put(Path(target), b"new", replace=True)

    assert names(tmp_path) == ["fifo", "folder"]


@pytest.mark.parametrize("publisher", [put, put_folder])
def test_a_missing_parent_folder_is_not_created(publisher, tmp_path):
    with pytest.raises(OutputError, match="missing does not exist"):
        publisher(tmp_path / "missing/out", b"new")

    assert names(tmp_path) == []


@pytest.mark.parametrize("publisher", [put, put_folder])
def test_a_parent_that_is_a_file_is_refused(publisher, tmp_path):
    (tmp_path / "file").write_bytes(b"old")

    with pytest.raises(OutputError, match="out: cannot be written: Not a directory"):
        publisher(tmp_path / "file/out", b"new")


@pytest.mark.parametrize("name", ["n" * 256, "a\0b"])
def test_a_name_that_cannot_be_is_refused_before_any_work(name, tmp_path):
    with pytest.raises(OutputError), publish_file(tmp_path / name, 8, replace=False):
        pytest.fail("the work has begun")


def test_a_bare_name_goes_to_the_working_folder(either_way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    put(Path("out.st"), b"soup")

    assert (tmp_path / "out.st").read_bytes() == b"soup"


def test_a_full_disk_is_refused_before_any_work_naming_the_bytes_needed(either_way, tmp_path):
    # more than any disk has, less than a file may have
    refused = pytest.raises(OutputError, match=f"needs {2**43} bytes")
    with refused, publish_file(tmp_path / "out", 2**43, replace=False):
        pytest.fail("the work has begun")

    assert names(tmp_path) == []


def test_a_limit_on_file_sizes_is_an_error_that_names_the_output(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    script = f"""
        import resource
        from pathlib import Path
        from soupctl.errors import OutputError
        from soupctl.storage.atomic import publish_file
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with publish_file(Path({str(tmp_path / "out")!r}), 1001, replace=True):
                print("the work has begun")
        except OutputError as error:
            print(error)
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )

    expected = "out: needs 1001 bytes, more than a file may have here (see ulimit -f)\n"
    assert done.stdout.endswith(expected)
    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, ValueError, OutputError])
def test_an_exception_leaves_the_old_output_and_nothing_else(either_way, exception, tmp_path):
    (tmp_path / "out").write_bytes(b"old")

    def work() -> None:
        with publish_file(tmp_path / "out", 8, replace=True) as fd:
            write_at(fd, b"new", 0)
            raise exception("stop")

    with pytest.raises(exception):
        work()

    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_a_check_that_fails_stops_the_publication(either_way, tmp_path):
    def check() -> None:
        raise OutputError("changed while it was read", path="a.st")

    refused = pytest.raises(OutputError, match=r"a\.st: changed while it was read")
    with refused, publish_file(tmp_path / "out", 8, replace=False, check=check):
        pass

    assert names(tmp_path) == []


@pytest.mark.parametrize("publisher", ["file", "folder"])
def test_sources_are_checked_after_all_data_is_synced_and_before_the_name_is_given(
    either_way, tmp_path, monkeypatch, publisher
):
    """A sync can take minutes, and a source that changes meanwhile must still be noticed."""
    events: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        events.append("named" if (tmp_path / "out").exists() else "synced")

    def check() -> None:
        events.append("named too early" if (tmp_path / "out").exists() else "checked")

    monkeypatch.setattr(os, "fsync", fsync)
    if publisher == "file":
        with publish_file(tmp_path / "out", 4, replace=False, check=check) as fd:
            write_at(fd, b"soup", 0)
    else:
        with publish_folder(
            tmp_path / "out", replace=False, may_replace=Path.exists, check=check
        ) as staging:
            write_at(staging.create("a.st", 4), b"soup", 0)

    assert events[0] == "synced"
    assert ["checked", "named"] == events[-2:]
    assert events.count("checked") == 1


def test_an_error_of_the_system_in_the_block_names_the_output(tmp_path):
    refused = pytest.raises(OutputError, match="out: cannot be written: Bad file descriptor")
    with refused, publish_file(tmp_path / "out", 8, replace=False):
        os.pwrite(-1, b"x", 0)


def test_a_closed_pipe_in_the_block_stays_one(tmp_path):
    with pytest.raises(BrokenPipeError), publish_file(tmp_path / "out", 8, replace=False):
        raise BrokenPipeError

    assert names(tmp_path) == []


def test_of_two_writers_with_force_the_last_wins_whole(either_way, tmp_path):
    with publish_file(tmp_path / "out", 5, replace=True) as first:
        with publish_file(tmp_path / "out", 6, replace=True) as second:
            write_at(first, b"first", 0)
            write_at(second, b"second", 0)
        assert (tmp_path / "out").read_bytes() == b"second"

    assert (tmp_path / "out").read_bytes() == b"first"
    assert names(tmp_path) == ["out"]


def test_of_two_writers_without_force_the_later_is_refused(either_way, tmp_path):
    refused = pytest.raises(OutputError, match="out: was created by another process meanwhile")
    with refused, publish_file(tmp_path / "out", 5, replace=False):
        put(tmp_path / "out", b"second")

    assert (tmp_path / "out").read_bytes() == b"second"
    assert names(tmp_path) == ["out"]


def test_publishing_holds_no_descriptor_afterwards(either_way, tmp_path):
    before = open_files()

    put(tmp_path / "out", b"new")
    put_folder(tmp_path / "folder", b"new")
    with pytest.raises(OutputError):
        put(tmp_path / "out", b"newer")

    assert open_files() == before


def test_data_of_any_shape_is_written_flat(tmp_path):
    data = memoryview(bytes(range(24))).cast("H", (3, 4))
    with publish_file(tmp_path / "out", 24, replace=False) as fd:
        write_at(fd, data, 0)
        write_at(fd, memoryview(b"").cast("H"), 0)

    assert (tmp_path / "out").read_bytes() == bytes(range(24))
