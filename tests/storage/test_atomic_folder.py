"""Publishing folders: what is refused, what is kept, and who wins."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from open_files import open_files

from soupctl.errors import OutputError
from soupctl.storage.atomic import publish_folder
from soupctl.storage.files import write_at


def put_folder(target: Path, text: bytes, *, replace: bool = False, ours: bool = True) -> None:
    with publish_folder(target, replace=replace, may_replace=lambda path: ours) as staging:
        write_at(staging.create("sub/a.st", len(text)), text, 0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bits(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_permission_bits_in_a_replaced_folder_are_kept(umask, tmp_path):
    put_folder(tmp_path / "folder", b"old")
    (tmp_path / "folder").chmod(0o700)
    (tmp_path / "folder/sub/a.st").chmod(0o664)

    put_folder(tmp_path / "folder", b"new", replace=True)

    assert bits(tmp_path / "folder") == 0o700
    assert bits(tmp_path / "folder/sub/a.st") == 0o664


def test_a_link_to_a_folder_is_followed(tmp_path):
    put_folder(tmp_path / "real", b"old")
    (tmp_path / "out").symlink_to("real")

    put_folder(tmp_path / "out", b"new", replace=True)

    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real/sub/a.st").read_bytes() == b"new"


def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path):
    put_folder(tmp_path / "out", b"old")

    def work() -> None:
        with publish_folder(tmp_path / "out", replace=True, may_replace=Path.exists) as staging:
            staging.create("deep/er/a.st", 8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()

    assert (tmp_path / "out/sub/a.st").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_an_old_folder_that_cannot_be_removed_is_named(tmp_path, monkeypatch):
    put_folder(tmp_path / "out", b"old")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(OutputError) as caught:
        put_folder(tmp_path / "out", b"new", replace=True)
    (remains,) = [name for name in names(tmp_path) if name != "out"]

    what = f"is written; the old folder remains as {tmp_path / remains}: Permission denied"
    assert f"{tmp_path / 'out'}: {what}" == caught.value.message()
    assert b"new" == (tmp_path / "out/sub/a.st").read_bytes()
    assert b"old" == (tmp_path / remains / "sub/a.st").read_bytes()


def test_of_two_folder_writers_with_force_the_last_wins_whole(tmp_path):
    with publish_folder(tmp_path / "out", replace=True, may_replace=Path.exists) as first:
        write_at(first.create("a.st", 5), b"first", 0)
        put_folder(tmp_path / "out", b"second", replace=True)

    assert (tmp_path / "out/a.st").read_bytes() == b"first"
    assert names(tmp_path / "out") == ["a.st"]
    assert names(tmp_path) == ["out"]


def test_of_two_folder_writers_without_force_the_later_is_refused(tmp_path):
    refused = pytest.raises(OutputError, match=r"out: exists \(force=True replaces it\)")
    with refused, publish_folder(tmp_path / "out", replace=False, may_replace=Path.exists):
        put_folder(tmp_path / "out", b"second")

    assert (tmp_path / "out/sub/a.st").read_bytes() == b"second"
    assert names(tmp_path) == ["out"]


def test_a_folder_that_vanishes_meanwhile_is_written_anew(tmp_path):
    put_folder(tmp_path / "out", b"old")

    with publish_folder(tmp_path / "out", replace=True, may_replace=Path.exists) as staging:
        write_at(staging.create("a.st", 3), b"new", 0)
        (tmp_path / "out").rename(tmp_path / "away")

    assert (tmp_path / "out/a.st").read_bytes() == b"new"


def test_a_folder_of_somebody_else_is_not_replaced_even_with_force(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_bytes(b"precious")

    with pytest.raises(OutputError, match="out: is a folder that soupctl did not write"):
        put_folder(tmp_path / "out", b"new", replace=True, ours=False)

    assert names(tmp_path / "out") == ["thesis.tex"]
    assert names(tmp_path) == ["out"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "out").write_bytes(b"old")

    with pytest.raises(OutputError, match="out: exists and is not a folder"):
        put_folder(tmp_path / "out", b"new", replace=True)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "", ".", "a\0b"])
def test_a_name_cannot_leave_the_output_folder(name, tmp_path):
    publication = publish_folder(tmp_path / "out", replace=False, may_replace=Path.exists)
    refused = pytest.raises(OutputError, match="is not a path inside")
    with refused, publication as staging:
        staging.create(name, 1)

    assert names(tmp_path) == []


def test_finished_files_hold_no_descriptor(tmp_path):
    with publish_folder(tmp_path / "out", replace=False, may_replace=Path.exists) as staging:
        before = open_files()
        for number in range(50):
            staging.finish(staging.create(f"{number}.json", 1))
        assert open_files() == before

    assert len(names(tmp_path / "out")) == 50
