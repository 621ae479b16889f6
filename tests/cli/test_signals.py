"""Commands that are interrupted, killed, or whose inputs change under them.

Rule 1: a command is held where it is by a stream that it waits for, not by sleeping and hoping.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from processes import waits_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who is asleep")

PIPE = 1 << 20
"""More than a pipe holds: who wrote so much has been read from."""


def said(code: int) -> bytes:
    """What a command that ends with this code says on stderr: something after Ctrl-C alone."""
    return b"soupctl: interrupted\n" if code == 128 + signal.SIGINT else b""


@pytest.fixture
def large(save) -> tuple[str, str]:
    """Two checkpoints larger than what a pipe holds."""
    for name, value in (("a.st", 0.5), ("b.st", 1.5)):
        save(name, {f"w{number}": np.full(2 * PIPE // 16, value, "f2") for number in range(16)})
    return "a.st", "b.st"


class Held:
    """A command that has opened its first input and waits for the rest of its second."""

    def __init__(self, soupctl, path: Path, output: str, *more: str) -> None:
        os.mkfifo(path)
        self.running = soupctl.start("avg", "a.st", "-", "-o", output, *more, stdin=path)
        self.raw = Path("b.st").read_bytes()
        self.stream = path.open("wb", buffering=0)
        # returns when most of it was read
        self.stream.write(self.raw[: PIPE + 1])
        while not waits_for(self.running.id, self.stream):
            time.sleep(0.001)

    def release(self):
        """What becomes of it with the rest of the stream."""
        self.stream.write(self.raw[PIPE + 1 :])
        self.stream.close()
        return self.running.wait()


@pytest.fixture
def hold(soupctl, large, tmp_path) -> Iterator[Callable[..., Held]]:
    held: list[Held] = []

    def start(output: str, *more: str) -> Held:
        held.append(Held(soupctl, tmp_path / f"fifo{len(held)}", output, *more))
        return held[-1]

    yield start
    for each in held:
        each.stream.close()


def test_a_command_that_is_held_is_otherwise_well(hold, soupctl):
    assert 0 == hold("c.st").release().code
    assert 0 == soupctl("hash", "c.st").code


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda each: str(int(each)),
)
@pytest.mark.parametrize("replace", [False, True], ids=["new", "replaced"])
def test_a_signal_ends_the_command_and_leaves_nothing(hold, holds, number, code, replace):
    if replace:
        Path("c.st").write_bytes(b"old")
    before = holds()
    held = hold("c.st", "-f")

    held.running.send(number)
    done = held.running.wait()

    assert (code, b"", said(code)) == (done.code, done.out, done.err)
    assert before == holds()


def test_a_second_signal_does_not_break_the_cleaning_up(hold, holds):
    before = holds()
    held = hold("c.st")

    # both are on their way when the command goes on
    held.running.send(signal.SIGSTOP)
    held.running.send(signal.SIGTERM)
    held.running.send(signal.SIGINT)
    held.running.send(signal.SIGCONT)
    done = held.running.wait()

    # whichever the system delivers first
    assert done.code in (130, 143)
    assert said(done.code) == done.err
    assert before == holds()


SEED = 20260
ENOUGH = 8
"""Signals that must arrive before the command is over."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("replace", [False, True], ids=["new", "replaced"])
def test_a_signal_at_any_moment_leaves_old_or_new(
    soupctl, large, holds, number, replace, record_property
):
    begun = time.monotonic()
    soupctl("avg", *large, "-o", "new.st")
    longest = time.monotonic() - begun
    new = Path("new.st").read_bytes()
    Path("new.st").unlink()
    old = b"old" if replace else None
    inputs = holds()
    moments = random.Random(SEED)
    in_time = 0
    while in_time < ENOUGH:
        Path("c.st").unlink(missing_ok=True)
        if replace:
            Path("c.st").write_bytes(b"old")
        running = soupctl.start("avg", *large, "-o", "c.st", "-f")
        time.sleep(moments.uniform(0, longest))
        running.send(number)
        done = running.wait()
        left = holds()
        found = left.pop("c.st", None)
        if number == signal.SIGKILL and replace:
            # between the two steps of replacing there is a name for a moment
            left = {name: data for name, data in left.items() if not name.endswith(".partial")}

        assert inputs == left
        assert found in (old, new)
        # before the handlers stand, a signal kills
        assert done.code in (0, -number, 128 + number)
        if done.code == 0:
            assert found == new
            # the machine is less busy than it was: earlier, then
            longest *= 0.8
        elif done.code > 0 or number == signal.SIGKILL:
            in_time += 1
        assert said(done.code) == done.err
    record_property("kills" if number == signal.SIGKILL else "signals", in_time)


def wait_for_handlers(process_id: int) -> None:
    """Return as soon as a process has put up its handler for SIGTERM."""
    status = Path(f"/proc/{process_id}/status")
    while True:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if int(lines["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1:
            return


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("delay", [0, 0.03, 0.1])
def test_a_signal_while_libraries_load_is_as_quiet(
    process, ingredients, holds, number, code, delay
):
    before = holds()
    # never over before the signal, because its second input comes slowly
    running = process("avg", ingredients[0], "-", "-o", "c.st", stdin=subprocess.PIPE)
    wait_for_handlers(running.pid)
    time.sleep(delay)
    running.send_signal(number)
    # a signal just before it falls asleep is heard with the next byte
    for byte in Path(ingredients[1]).read_bytes()[:-1]:
        if running.poll() is not None:
            break
        with suppress(BrokenPipeError):
            os.write(running.stdin.fileno(), bytes([byte]))
        time.sleep(0.02)
    out, err = running.communicate()

    assert (code, b"", said(code)) == (running.returncode, out, err)
    assert before == holds()


COMMAND = """
import os, signal, sys, time, weakref
from soupctl.cli import main

def interrupt():
    os.kill(os.getpid(), int(sys.argv[1]))
    for _ in range(1000):
        pass

def run(_arguments, _style):
    {body}
    return 0

main._run = run
main.main([])
"""

LOST = {
    "finalizer": """
    class Thing:
        pass
    thing = Thing()
    reference = weakref.ref(thing, lambda _: interrupt())
    del thing
    time.sleep(60)
""",
    "dropped": """
    try:
        interrupt()
    except BaseException:
        pass
    time.sleep(60)
""",
    "dropped-twice": """
    try:
        interrupt()
    except BaseException:
        pass
    try:
        time.sleep(60)
    except BaseException:
        pass
    time.sleep(60)
""",
}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("body", LOST.values(), ids=LOST)
def test_a_signal_that_a_library_drops_is_not_lost(number, code, body):
    command = COMMAND.format(body=body)
    done = subprocess.run(
        [sys.executable, "-c", command, str(int(number))], capture_output=True, check=False
    )

    assert (code, b"", said(code)) == (done.returncode, done.stdout, done.stderr)


CLEANING = """
    try:
        interrupt()
    finally:
        for _ in range(20):
            try:
                raise KeyError
            except KeyError:
                time.sleep(0.01)
        print("clean")
"""


def test_a_clean_up_after_a_signal_is_not_interrupted():
    command = COMMAND.format(body=CLEANING)
    done = subprocess.run(
        [sys.executable, "-c", command, str(int(signal.SIGTERM))], capture_output=True, check=False
    )

    assert (143, b"clean\n", b"") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_the_caller_ignores_stays_ignored(process, large, number):
    running = process(
        "avg", *large, "-o", "c.st", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)
    )
    for _ in range(20):
        running.send_signal(number)
        time.sleep(0.01)
    _, err = running.communicate()

    assert (0, b"") == (running.returncode, err)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def replace_by_equal(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


CHANGES = {
    "rewritten": rewrite,
    "longer": lengthen,
    "replaced": replace_by_equal,
    "removed": Path.unlink,
    "touched": Path.touch,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("output", ["c.st", "-", "folder"])
def test_an_input_that_changes_meanwhile_is_an_error_and_no_soup(hold, holds, change, output):
    more = ["--shard-size", "1M"] if output == "folder" else []
    held = hold(output, *more)

    CHANGES[change](Path("a.st"))
    changed = holds()
    done = held.release()

    expected = "soupctl: a.st: changed while it was read\n"
    assert (6, b"", expected) == (done.code, done.out, done.message)
    assert changed == holds()


def test_an_input_that_is_cut_off_meanwhile_publishes_nothing(hold, holds):
    held = hold("c.st")

    os.truncate("a.st", 4096)
    changed = holds()
    done = held.release()

    assert done.code in (6, -signal.SIGBUS)
    assert b"" == done.out
    assert changed == holds()


def test_a_command_that_is_stopped_for_a_while_goes_on(hold, soupctl):
    held = hold("c.st")

    held.running.send(signal.SIGSTOP)
    time.sleep(0.05)
    assert not Path("c.st").exists()
    held.running.send(signal.SIGCONT)

    assert 0 == held.release().code
    assert 0 == soupctl("hash", "c.st").code


def test_an_input_that_changes_while_the_command_is_stopped_is_noticed(hold, holds):
    held = hold("c.st")

    held.running.send(signal.SIGSTOP)
    rewrite(Path("a.st"))
    changed = holds()
    held.running.send(signal.SIGCONT)

    assert 6 == held.release().code
    assert changed == holds()
