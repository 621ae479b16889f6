"""Print which files of soupctl run functions in a command, and how many lines these files have.

    python tools/trace_files.py avg a.safetensors b.safetensors -o soup.safetensors -j1

Rule 1: a function counts when it is called, on any thread; the body of a module or class does not.
"""

from __future__ import annotations

import sys
import threading
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType

import soupctl
from soupctl.cli.main import main

ROOT = Path(soupctl.__file__).parent


def trace(arguments: list[str]) -> tuple[dict[str, set[str]], int]:
    """By file of the package, the functions that a command calls; and the command's exit code."""
    called: dict[str, set[str]] = {}

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & CO_OPTIMIZED:
            called.setdefault(code.co_filename, set()).add(code.co_qualname)

    sys.argv = ["soupctl", *arguments]
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.setprofile(None)
    return called, status


def report(arguments: list[str]) -> int:
    """Print each file, with the functions called and all its lines, and the totals."""
    called, status = trace(arguments)
    inside = {Path(name): found for name, found in called.items() if name.startswith(str(ROOT))}
    lines = {path: len(path.read_text().splitlines()) for path in inside}
    for path, found in sorted(inside.items()):
        place = path.relative_to(ROOT)
        sys.stderr.write(f"{len(found):4} functions {lines[path]:5} lines  {place}\n")
    functions = sum(map(len, inside.values()))
    totals = f"{len(inside)} files, {functions} functions, {sum(lines.values())} lines"
    sys.stderr.write(f"{totals}\n")
    return status


if __name__ == "__main__":
    sys.exit(report(sys.argv[1:]))
