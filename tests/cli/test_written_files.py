"""Outputs on disk: their permissions, and several writers of one at once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027])
def test_permission_bits_follow_the_umask(soupctl, ingredients, umask):
    soupctl("avg", *ingredients, "-o", "c.st", umask=umask)
    soupctl("avg", *ingredients, "-o", "c", "--shard-size", "1k", umask=umask)

    assert 0o666 & ~umask == mode("c.st")
    assert 0o777 & ~umask == mode("c")
    assert {0o666 & ~umask} == {mode(path) for path in Path("c").iterdir()}


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o664, 0o444])
def test_the_mode_of_an_output_that_is_replaced_is_kept(soupctl, ingredients, bits):
    Path("c.st").write_bytes(b"old")
    Path("c.st").chmod(bits)

    assert 0 == soupctl("avg", *ingredients, "-o", "c.st", "-f").code
    assert bits == mode("c.st")


@pytest.mark.parametrize("more", [(), ("--shard-size", "1k")], ids=["file", "folder"])
def test_of_writers_at_once_one_wins_and_the_others_say_so(soupctl, ingredients, holds, more):
    before = holds()

    running = [
        soupctl.start("avg", "a.st", f"b.st@{number}", "-o", "c", *more, "-j1")
        for number in range(1, 5)
    ]
    ended = [each.wait() for each in running]

    assert [0, 6, 6, 6] == sorted(done.code for done in ended)
    for done in ended:
        assert done.message in (
            "",
            "soupctl: c: exists (-f replaces it)\n",
            "soupctl: c: was created by another process meanwhile (-f replaces it)\n",
        )
    assert before == {name: data for name, data in holds().items() if name.split("/")[0] != "c"}
    assert 0 == soupctl("hash", "c").code


@pytest.mark.parametrize("more", [(), ("--shard-size", "1k")], ids=["file", "folder"])
def test_of_writers_at_once_with_force_the_last_wins_whole(soupctl, ingredients, holds, more):
    expected = []
    for number in range(1, 5):
        soupctl("avg", "a.st", f"b.st@{number}", "-o", "c", "-f", *more)
        expected.append(holds())

    running = [
        soupctl.start("avg", "a.st", f"b.st@{number}", "-o", "c", "-f", *more, "-j1")
        for number in range(1, 5)
    ]
    ended = [each.wait() for each in running]

    assert [(0, b"")] * 4 == [(done.code, done.err) for done in ended]
    assert holds() in expected
