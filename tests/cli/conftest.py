"""Commands as processes, small checkpoints to give them, and the words that they are to say.

Rule 1: a command runs in a temporary folder and is given relative paths, so no golden holds a path
of the machine.
Rule 2: `GOLDEN=rewrite` makes `golden` write what it is otherwise compared with; `just golden` runs
the tests so.
"""

from __future__ import annotations

import json
import os
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from preloading import preloading
from processes import Server, started
from safetensors.numpy import save_file

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "cli"
ENVIRONMENT = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Done:
    """A command that has ended; a negative code is the signal that killed it."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output."""
        return self.out.decode()

    @property
    def json(self):
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def message(self) -> str:
        """Standard error."""
        return self.err.decode()


@dataclass
class Running:
    """A command that was started."""

    server: Server
    id: int
    out: Path
    err: Path

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.id, number)

    def wait(self) -> Done:
        """Its end."""
        code = self.server.wait(self.id)
        return Done(code, read_regular(self.out), read_regular(self.err))


def read_regular(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@dataclass
class Commands:
    """Starts commands in one folder."""

    server: Server
    folder: Path
    streams: Path
    count: int = 0

    def start(
        self,
        *arguments: str,
        stdin: bytes | Path = b"",
        out: Path | None = None,
        err: Path | None = None,
        environment: Mapping[str, str | None] | None = None,
        limits: Mapping[str, int | tuple[int, int]] | None = None,
        umask: int = 0o022,
    ) -> Running:
        """The command as it begins to run; `out` and `err` are devices instead of files."""
        self.count += 1
        paths = [self.streams / f"{name}{self.count}" for name in ("in", "out", "err")]
        for path in paths:
            path.touch()
        if isinstance(stdin, bytes):
            paths[0].write_bytes(stdin)
        else:
            paths[0] = stdin
        paths[1:] = [out or paths[1], err or paths[2]]
        request = {
            "arguments": arguments,
            "folder": str(self.folder),
            "umask": umask,
            "environment": dict(environment or {}),
            "limits": dict(limits or {}),
            "streams": [str(path) for path in paths],
        }
        return Running(self.server, self.server.start(request), paths[1], paths[2])

    def __call__(self, *arguments: str, **more) -> Done:
        """The command, run to its end."""
        return self.start(*arguments, **more).wait()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    serving = Server.launch(HERE / "server.py", **ENVIRONMENT)
    yield serving
    serving.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder that commands of this test run in, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def soupctl(server: Server, folder: Path, tmp_path: Path) -> Iterator[Commands]:
    """Runs `soupctl` with the given arguments in `folder`."""
    streams = tmp_path / "streams"
    streams.mkdir()
    yield Commands(server, folder, streams)
    server.end_commands()


@pytest.fixture(scope="session")
def shim_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose file operations can be made to fail; tests/fault/shim.c says how."""
    shim = preloading(tmp_path_factory.mktemp("shim"))
    serving = Server.launch(HERE / "server.py", **ENVIRONMENT, **shim)
    yield serving
    serving.close()


@pytest.fixture
def process(folder: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `soupctl` in an interpreter of its own, for what is decided when one starts."""
    with ExitStack() as processes:

        def run(*arguments: str, environment: Mapping[str, str] | None = None, **more):
            return processes.enter_context(
                started(
                    *(sys.executable, "-m", "soupctl", *arguments),
                    cwd=folder,
                    env={**os.environ, **ENVIRONMENT, **(environment or {})},
                    **{
                        "stdin": subprocess.DEVNULL,
                        "stdout": subprocess.PIPE,
                        "stderr": subprocess.PIPE,
                        **more,
                    },
                )
            )

        yield run


@pytest.fixture
def ingredients(folder: Path) -> tuple[str, str]:
    """Two small checkpoints of one layout: a.st and b.st."""
    for name, start in (("a.st", 0), ("b.st", 1)):
        save(
            name,
            {
                "conv.bias": np.arange(start, start + 4, dtype=np.float16),
                "conv.weight": np.full((4, 4), start + 0.5, np.float32),
                "steps": np.array([7], np.int64),
            },
            {"format": "pt"},
        )
    return "a.st", "b.st"


def save(path: str, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    save_file(tensors, path, metadata)
    Path(path).chmod(0o644)


@pytest.fixture(name="save")
def _save(folder: Path) -> Callable[..., None]:
    """Writes a checkpoint of the given arrays."""
    return save


@pytest.fixture
def hollow(folder: Path) -> Callable[..., None]:
    """Writes a checkpoint of zeros that takes no disk: {name: (dtype, shape)}."""

    def write(path: str | Path, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> None:
        sizes = {"F8_E4M3": 1, "F16": 2, "F32": 4}
        header, end = {}, 0
        for name, (dtype, shape) in tensors.items():
            size = int(np.prod(shape, dtype=object)) * sizes[dtype]
            header[name] = {
                "dtype": dtype,
                "shape": list(shape),
                "data_offsets": [end, end + size],
            }
            end += size
        raw = json.dumps(header).encode()
        with Path(path).open("wb") as file:
            file.write(struct.pack("<Q", len(raw)) + raw)
            file.truncate(8 + len(raw) + end)

    return write


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the file of that name below tests/golden/cli."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("GOLDEN") == "rewrite":
            path.write_text(text)

        assert path.read_text() == text

    return compare


@pytest.fixture
def holds(folder: Path) -> Callable[[], dict[str, bytes | None]]:
    """Everything in the folder with its bytes; None for what is not a regular file."""

    def look() -> dict[str, bytes | None]:
        return {
            os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace"): (
                path.read_bytes() if path.is_file() and not path.is_symlink() else None
            )
            for path in sorted(folder.rglob("*"))
        }

    return look


@pytest.fixture
def refused(soupctl, holds, golden):
    """Runs commands that are refused with `code`, and compares what they say with a golden file."""

    def run(name: str, code: int, *commands: str, stdin: bytes = b"") -> None:
        before = holds()
        lines = []
        for command in commands:
            done = soupctl(*shlex.split(command), stdin=stdin)

            assert (code, b"") == (done.code, done.out), (command, done)
            if "--json" in shlex.split(command):
                assert code == json.loads(done.message)["code"], command
            else:
                assert done.message.startswith("soupctl: "), command
            assert done.message.endswith("\n"), command
            assert 1 == len(done.message.splitlines()), command
            assert done.message[:-1].isprintable(), command
            assert before == holds(), command
            lines += [f"$ soupctl {command}", done.message]
        golden(f"refused-{name}", "\n".join(lines))

    return run
