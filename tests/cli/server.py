"""Runs commands in forks of one process that has loaded everything, so that each takes no time.

Rule 1: a fork is a process like any other: it has its own descriptors, limits, signals and end.
Rule 2: what an interpreter decides when it starts (encodings, buffering) is not tested here.
Rule 3: commands that still run when there are no more requests are killed.

Requests and answers are lines of JSON on standard input and output: `{"arguments": ...}` starts a
command and gives its process id; `{"wait": id}` gives its exit code. An answer is a pair, with the
`"number"` of its request first.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shlex
import signal
import sys
import tempfile
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from itertools import product
from pathlib import Path

from soupctl.cli.app import commands
from soupctl.cli.main import main

SHAPES = (
    b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
    b'"b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},'
    b'"c":{"dtype":"F64","shape":[1],"data_offsets":[12,20]}}'
)
HEADER = len(SHAPES).to_bytes(8, "little") + SHAPES

USUAL = """\
avg a.st b.st -o soup.st -j1
avg a.st b.st -o kept.st --keep-sum -j1
add kept.st c.st -o more.st -j1
subtract soup.st a.st -o less.st -j1
verify soup.st --level rebuild
delta b.st a.st -o b.delta -j1
apply a.st b.delta -o applied.st -j1
merge a.st b.st --method slerp -o merged.st -j1
convert a.st -o converted.st --dtype F32 -j1
diff a.st b.st
log soup.st --tree
inspect a.st
has soup.st a.st
hash soup.st
attest soup.st -o proof.json -j1
bom soup.st -o bom.json
greedy a.st b.st --score 'echo 1 # {}' -o best.st -j1
rank soup.st --score 'echo 1 # {}' -j1
"""
"""Commands that load what most others do."""


def start(request: dict) -> int:
    """The id of a new process that runs the requested command."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        become(request)
        main(request["arguments"])
    except SystemExit as leaving:
        code = leaving.code or 0
        try:
            sys.stdout.flush()
        except OSError:
            # what an interpreter that cannot flush says as it ends
            code = 120
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(code)


def become(request: dict) -> None:
    """Take on the folder, environment, limits and streams of the request."""
    os.setpgid(0, 0)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    for name, value in request["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    for name, most in request["limits"].items():
        both = most if isinstance(most, list) else (most, most)
        resource.setrlimit(getattr(resource, name), tuple(both))
    # as the command line does where it is loaded under a limit
    sys.dont_write_bytecode = sys.dont_write_bytecode or "RLIMIT_FSIZE" in request["limits"]
    # as an interpreter leaves it
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    modes = (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND)
    for number, (path, mode) in enumerate(zip(request["streams"], modes, strict=True)):
        fd = os.open(path, mode | os.O_NOCTTY)
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115


def load() -> None:
    """Run commands, so that all that they load and compile is there; one thread leaves no other."""
    before = Path.cwd()
    every = commands()
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nothing,
        redirect_stdout(nothing),
        redirect_stderr(nothing),
    ):
        os.chdir(folder)
        for number, name in enumerate(("a.st", "b.st", "c.st")):
            Path(name).write_bytes(HEADER + bytes([number]) * 20)
        for command in USUAL.splitlines():
            every.main(args=shlex.split(command), prog_name="soupctl", standalone_mode=False)
        os.chdir(before)
    # what a refusal of an option needs
    for name in ("suggest", "usage"):
        import_module(f"soupctl.cli.{name}")
    # the module of a command is loaded when its options are made
    for name in every.commands:
        assert every.commands[name].params
    gc.freeze()


def serve() -> None:
    """Answer one request a line until there are no more."""
    running, codes = set(), {}
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "wait" in request:
                started = request["wait"]
                if started in running:
                    codes[started] = os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])
                    running.remove(started)
                # who broke off a question asks again
                answer = codes[started]
            else:
                answer = start(request)
                running.add(answer)
            sys.stdout.write(json.dumps([request["number"], answer]) + "\n")
            sys.stdout.flush()
    finally:
        # a command may be gone, or not yet lead its group
        for each, send in product(running, (os.killpg, os.kill)):
            with suppress(ProcessLookupError):
                send(each, signal.SIGKILL)


if __name__ == "__main__":
    # before a command has handlers of its own, a signal kills it as it would kill an interpreter
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    load()
    serve()
