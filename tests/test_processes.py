"""The tests hear every signal wherever they are run, and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import PATIENCE, Server, descendants, started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells of processes")

TESTS = Path(__file__).parent
SLEEPS = "import time; time.sleep(600)"
STARTS_ANOTHER = f"""
import subprocess, sys
with subprocess.Popen([sys.executable, "-c", {SLEEPS!r}], start_new_session=True):
    pass
"""
HELD = """
import sys
from pathlib import Path
from processes import started

def test_of_a_program_that_does_not_end(request):
    with started(sys.executable, "-c", "import time; time.sleep(600)") as process:
        Path(request.config.rootpath, "id").write_text(f"{process.pid}\\n")
        process.wait()
"""


def runs(process: int) -> bool:
    """Whether a process is there, and no zombie that waits to be reaped."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def deafen() -> None:
    """Ignore and block what a shell's `&`, nohup and some CI do, and more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


def test_tests_of_signals_pass_where_the_caller_ignores_and_blocks_them():
    name = f"{TESTS}/cli/test_signals.py::test_a_signal_that_a_library_drops_is_not_lost"
    held = f"{TESTS}/cli/test_signals.py::test_a_signal_ends_the_command_and_leaves_nothing"
    command = (sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider")
    with started(
        *command, name, held, stdout=subprocess.PIPE, text=True, cwd=TESTS.parent, preexec_fn=deafen
    ) as tests:
        said, _ = tests.communicate(timeout=PATIENCE)

    assert tests.returncode == 0, said
    assert "12 passed" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_tests_ends_their_processes(tmp_path, number):
    (tmp_path / "test_held.py").write_text(HELD)
    # options of the caller may name plugins that are not found on this path
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_ADDOPTS": ""}
    command = (sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider")
    place = ("--rootdir", tmp_path, "-c", "/dev/null", tmp_path)
    with started(*command, *place, stdout=subprocess.PIPE, env=environment, text=True) as tests:
        held = tmp_path / "id"
        wait_until(
            lambda: held.exists() and held.read_text().endswith("\n"), "no program was started"
        )
        program = int(held.read_text())
        assert runs(program)
        tests.send_signal(number)
        tests.communicate(timeout=PATIENCE)

        assert not runs(program)


def fail_beside(found: list[int]) -> None:
    """A test that fails while a program runs, and the processes that it has by then."""
    with started(sys.executable, "-c", STARTS_ANOTHER) as process:
        wait_until(lambda: descendants(process.pid), "no other program was started")
        found += [process.pid, *descendants(process.pid)]
        raise AssertionError("an assertion fails")


def test_a_program_is_killed_with_its_descendants_where_a_test_fails():
    found: list[int] = []
    with pytest.raises(AssertionError, match="an assertion fails"):
        fail_beside(found)

    assert len(found) == 2
    wait_until(lambda: not any(map(runs, found)), "a program outlives its test")


@pytest.fixture
def server():
    """A server of commands, of which each sleeps."""
    script = TESTS / "cli" / "server.py"
    serving = Server.launch(script)
    yield serving
    serving.process.kill()
    serving.process.communicate()


def sleeping(server: Server, folder: Path) -> int:
    """A command that waits for a stream that does not come."""
    stream = folder / "stream"
    os.mkfifo(stream)
    for name in ("out", "err"):
        (folder / name).touch()
    # keeps it open, and writes nothing
    os.open(stream, os.O_RDWR)
    return server.start(
        {
            "arguments": ["hash", "-"],
            "folder": str(folder),
            "umask": 0o022,
            "environment": {},
            "limits": {},
            "streams": [str(stream), str(folder / "out"), str(folder / "err")],
        }
    )


def test_commands_that_a_test_leaves_running_are_killed(server, tmp_path):
    command = sleeping(server, tmp_path)

    server.end_commands()

    assert not runs(command)


def test_commands_end_with_the_server_when_nobody_asks_it_any_more(server, tmp_path):
    command = sleeping(server, tmp_path)

    server.process.stdin.close()
    server.process.wait()
    server.process.stdin = None

    wait_until(lambda: not runs(command), "a command outlives its server")


def test_the_answer_to_a_question_that_was_broken_off_is_not_taken_for_another(server, tmp_path):
    command = sleeping(server, tmp_path)
    server.asked += 1
    server.process.stdin.write(f'{{"wait": {command}, "number": {server.asked}}}\n')

    server.end_commands()
    (tmp_path / "other").mkdir()

    assert not runs(command)
    assert runs(sleeping(server, tmp_path / "other"))
    server.end_commands()
