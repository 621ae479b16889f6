"""Outputs appear on file systems that lack links, flags of rename, modes, reservation, or all."""

from __future__ import annotations

import errno
import fcntl
import os
from itertools import combinations

import pytest

from soupctl.errors import OutputError
from soupctl.storage import allocate, lacking, partial, renameat
from soupctl.storage.atomic import publish_bytes, publish_file, publish_folder


class Call:
    """Stands for a system call that the file system does not have."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, *words: object, **names: object) -> int:
        raise OSError(self.code, os.strerror(self.code))


def without_unnamed(patch: pytest.MonkeyPatch) -> None:
    for module in (partial, lacking):
        patch.setattr(module, "open_unnamed", lambda folder: None)


def without_links(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "link", Call(errno.EPERM))


def without_flags(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renameat, "_renameat2", None)


def without_modes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "chmod", Call(errno.EPERM))


def without_reservation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(allocate, "_fallocate", None)


def without_locks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fcntl, "flock", Call(errno.ENOLCK))


LACKS = (without_unnamed, without_links, without_flags, without_modes, without_reservation)


@pytest.mark.parametrize(
    "lacks",
    [each for count in range(1, 6) for each in combinations(LACKS, count)],
    ids=lambda lacks: "-".join(each.__name__.removeprefix("without_") for each in lacks),
)
def test_an_output_appears_and_is_replaced_without(lacks, tmp_path, monkeypatch):
    for lack in lacks:
        lack(monkeypatch)
    for content in (b"old", b"new" * 1000):
        is_new = content == b"old"
        publish_bytes(tmp_path / "file", content, replace=not is_new)
        allowed = {"replace": not is_new, "may_replace": lambda path: True}
        with publish_folder(tmp_path / "folder", **allowed) as staging:
            os.write(staging.create("a/b", len(content)), content)

        assert content == (tmp_path / "file").read_bytes()
        assert content == (tmp_path / "folder/a/b").read_bytes()
        with pytest.raises(OutputError, match="exists"):
            publish_bytes(tmp_path / "file", b"", replace=False)
    assert ["file", "folder"] == sorted(os.listdir(tmp_path))


SAID = {
    without_unnamed: {lacking.UNNAMED},
    without_links: set(),
    without_flags: {lacking.EXCHANGE},
    without_modes: {lacking.MODES},
    without_reservation: {lacking.SPACE},
    without_locks: {lacking.LOCKS},
}


@pytest.mark.parametrize("lacks", [(each,) for each in SAID] + [tuple(SAID), ()])
def test_missing_features_of_a_file_system_are_reported_and_no_file_is_left(
    lacks, tmp_path, monkeypatch
):
    for lack in lacks:
        lack(monkeypatch)

    found = lacking.lacking(tmp_path)

    expected = set().union(*(SAID[lack] for lack in lacks))
    if {without_links, without_flags} <= set(lacks):
        expected |= {lacking.LINKS}
    assert expected == set(found)
    assert [] == os.listdir(tmp_path)


def test_a_name_that_is_taken_meanwhile_is_kept_where_there_are_no_links(tmp_path, monkeypatch):
    for lack in (without_unnamed, without_links, without_flags):
        lack(monkeypatch)

    with (
        pytest.raises(OutputError, match="was created by another process meanwhile"),
        publish_file(tmp_path / "file", 10, replace=False),
    ):
        (tmp_path / "file").write_bytes(b"of another")
    assert b"of another" == (tmp_path / "file").read_bytes()
    assert ["file"] == os.listdir(tmp_path)


def test_a_rename_that_fails_leaves_no_empty_file(tmp_path, monkeypatch):
    for lack in (without_unnamed, without_links, without_flags):
        lack(monkeypatch)
    monkeypatch.setattr(os, "rename", Call(errno.EIO))

    with pytest.raises(OutputError, match="Input/output error"):
        publish_bytes(tmp_path / "file", b"x", replace=False)
    assert [] == os.listdir(tmp_path)


def test_a_mode_that_cannot_be_set_for_another_reason_is_an_error(tmp_path, monkeypatch):
    publish_bytes(tmp_path / "file", b"old", replace=False)
    monkeypatch.setattr(os, "chmod", Call(errno.EIO))

    with pytest.raises(OutputError, match="Input/output error"):
        publish_bytes(tmp_path / "file", b"new", replace=True)
    assert b"old" == (tmp_path / "file").read_bytes()


def test_a_disk_that_is_full_is_an_error_of_the_reservation(tmp_path, monkeypatch):
    def full(*_: object) -> int:
        allocate.ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(allocate, "_fallocate", full)
    with pytest.raises(OutputError, match="bytes of disk space"):
        publish_bytes(tmp_path / "file", b"x", replace=False)


def test_a_reservation_that_a_signal_interrupts_goes_on(tmp_path, monkeypatch):
    calls = []

    def interrupted(*_: object) -> int:
        calls.append(1)
        allocate.ctypes.set_errno(errno.EINTR)
        return 0 if len(calls) == 3 else -1

    monkeypatch.setattr(allocate, "_fallocate", interrupted)
    publish_bytes(tmp_path / "file", b"x", replace=False)
    assert 3 == len(calls)
