"""Full disks, read-only disks and files without permission are errors of one line."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MEGABYTE = 1 << 20


def in_small_disk(command: str, size: str = "1m", options: str = "") -> subprocess.CompletedProcess:
    """The shell's `command` in a namespace of its own where ./small is a disk of that size."""
    script = (
        f"mount -t tmpfs -o size={size} none small && {command}; code=$?; ls -A small; exit $code"
    )
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.fixture
def small_disk(folder) -> None:
    """Whether this user may mount one; the test is skipped if not."""
    Path("small").mkdir()
    if not shutil.which("unshare") or in_small_disk("true").returncode:
        pytest.skip("no disk can be mounted here")


SOUPCTL = f"{shlex.quote(sys.executable)} -m soupctl"


@pytest.mark.parametrize("more", ["-o small/c.st", "-o small/c --shard-size 400k"])
def test_a_full_disk_is_an_error_and_leaves_nothing_on_it(small_disk, save, more):
    save("a.st", {f"w{number}": np.ones(MEGABYTE // 4, np.float16) for number in range(3)})

    done = in_small_disk(f"{SOUPCTL} avg a.st a.st {more}")

    assert (6, "") == (done.returncode, done.stdout)
    target = more.split()[1]
    assert done.stderr.startswith(f"soupctl: {target}: needs ")
    assert 1 == len(done.stderr.splitlines())


def test_a_full_disk_keeps_the_old_output(small_disk, save):
    save("a.st", {"w": np.ones(MEGABYTE // 4, np.float16)})
    again = f"{SOUPCTL} avg a.st a.st -o small/c.st"

    done = in_small_disk(f"{again} && {SOUPCTL} hash small/c.st && {again} -f; test $? = 6")

    digest, listed = done.stdout.splitlines()
    assert (0, "c.st") == (done.returncode, listed)
    assert digest.endswith("  small/c.st")
    assert done.stderr.startswith("soupctl: small/c.st: needs ")


def test_a_stream_without_room_for_a_spool_is_an_error(small_disk, save):
    save("a.st", {"w": np.ones(MEGABYTE, np.float16)})

    spooled = in_small_disk(f"TMPDIR=small {SOUPCTL} avg a.st a.st -o - | wc -c")
    read = in_small_disk(f"TMPDIR=small {SOUPCTL} avg - a.st -o small/c.st <a.st; test $? = 6")

    assert "0\n" == spooled.stdout
    assert 1 == len(spooled.stderr.splitlines())
    assert "bytes of disk space" in spooled.stderr
    assert (0, "") == (read.returncode, read.stdout)
    assert "bytes of disk space" in read.stderr


@pytest.mark.parametrize("output", ["small/c.st --keep-sum", "- --threads 1"])
def test_a_plan_is_refused_where_the_run_finds_no_room(small_disk, save, output):
    """The soup alone has room; the sum beside it has not, nor the spool of standard output."""
    size = 200_000 if "keep" in output else MEGABYTE
    save("a.st", {"w": np.ones(size, np.float16)})
    command = f"TMPDIR=small {SOUPCTL} avg a.st a.st -o {output}"

    made, planned = in_small_disk(f"{command} | wc -c"), in_small_disk(f"{command} -n | wc -c")

    assert ("0\n", "0\n") == (made.stdout, planned.stdout)
    for done in (made, planned):
        assert "bytes of disk space" in done.stderr
        assert 1 == len(done.stderr.splitlines())


def test_a_folder_that_cannot_be_written_to_is_an_error(small_disk, ingredients):
    again = f"mount -o remount,ro small && {SOUPCTL} avg a.st b.st -o small/c.st"

    done = in_small_disk(again)

    assert (6, "") == (done.returncode, done.stdout)
    assert "soupctl: small/c.st: cannot be written: Read-only file system\n" == done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error(soupctl, ingredients, holds):
    Path("closed").mkdir(0o500)
    before = holds()

    done = soupctl("avg", *ingredients, "-o", "closed/c.st")

    assert (6, b"") == (done.code, done.out)
    assert "soupctl: closed/c.st: cannot be written: Permission denied\n" == done.message
    assert before == holds()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_an_input_without_permission_is_an_error(soupctl, ingredients):
    Path("b.st").chmod(0)

    done = soupctl("avg", *ingredients, "-o", "c.st")

    assert (3, "soupctl: b.st: cannot be read: Permission denied\n") == (done.code, done.message)
