"""A process that publishes over and over, while the shim that is preloaded makes it fail.

Run as `python publisher.py SCENARIO ROOT LOG FAULTS`, FAULTS being a JSON list of environments for
the shim. For each, ROOT gets the scenario's old output, a child publishes the new one, and a JSON
line tells how the child ended, what ROOT then holds, and which operations were made.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from soupctl.errors import OutputError
from soupctl.storage import renameat, written
from soupctl.storage.atomic import publish_file, publish_folder
from soupctl.storage.files import write_at

OLD, NEW = b"the old one", b"new, and longer than the old one"


def file(root: Path, *, replace: bool) -> None:
    with publish_file(root / "out", len(NEW), replace=replace) as fd:
        write_at(fd, NEW, 0)


def folder(root: Path, *, replace: bool) -> None:
    def anything(path: Path) -> bool:
        return True

    with publish_folder(root / "out", replace=replace, may_replace=anything) as staging:
        staging.finish(staging.create("config.json", 0))
        for name in ("model.st", "unet/model.st"):
            write_at(staging.create(name, len(NEW)), NEW, 0)


def windows(root: Path, *, replace: bool) -> None:
    written.WINDOW = len(NEW) // 4
    with publish_file(root / "out", len(NEW), replace=replace) as fd:
        file = written.WrittenFile(fd)
        for place in range(len(NEW)):
            file.write(NEW[place : place + 1], place)


def old_file(root: Path) -> None:
    (root / "out").write_bytes(OLD)


def old_folder(root: Path) -> None:
    (root / "out/vae").mkdir(parents=True)
    (root / "out/model.st").write_bytes(OLD)
    (root / "out/vae/model.st").write_bytes(OLD)


def empty(root: Path) -> None:
    pass


SCENARIOS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "a new file": (empty, lambda root: file(root, replace=False)),
    "a file replaced": (old_file, lambda root: file(root, replace=True)),
    "a file replaced, written back early": (old_file, lambda root: windows(root, replace=True)),
    "a new folder": (empty, lambda root: folder(root, replace=False)),
    "a folder replaced": (old_folder, lambda root: folder(root, replace=True)),
}


def without(*lacking: str) -> None:
    """Take away what another system, or a plainer file system, does not have."""
    if "tmpfile" in lacking:
        del os.O_TMPFILE
    if "renameat2" in lacking:
        renameat._renameat2 = None


def attempt(scenario: str, root: Path, log: Path, fault: dict[str, str]) -> dict[str, object]:
    """One publication under a fault, and what came of it."""
    prepare, publish = SCENARIOS[scenario]
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    prepare(root)
    log.write_bytes(b"")
    child = os.fork()
    if child == 0:
        os.environ.update(fault, SHIM_ROOT=str(root), SHIM_LOG=str(log))
        code = 1
        try:
            publish(root)
            code = 0
        except OutputError:
            code = OutputError.exit_code
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return {
        "fault": fault,
        "exit": os.waitstatus_to_exitcode(status),
        "holds": holds(root),
        "operations": log.read_text().splitlines(),
    }


def holds(root: Path) -> dict[str, str]:
    """The files below the folder, and the folders that are empty, with their contents."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else "/"
        for path in sorted(root.rglob("*"))
    }


def main() -> None:
    scenario, root, log, faults, *lacking = sys.argv[1:]
    without(*lacking)
    for fault in json.loads(faults):
        result = attempt(scenario, Path(root), Path(log), fault)
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
