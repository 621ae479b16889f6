"""Make an environment for each rival: `python benchmarks/rival_environments.py FOLDER [RIVAL...]`.

Rule 1: the versions of a rival and of all it needs are those of rivals/RIVAL.txt, torch for CPUs
where pip is given such a build.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

RIVALS = Path(__file__).with_name("rivals")
NAMES = tuple(sorted(path.stem for path in RIVALS.glob("*.txt")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environments that are named, by default all."""
    parser = argparse.ArgumentParser(description="Make an environment for each rival.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("rivals", nargs="*", metavar="RIVAL", help=f"any of: {', '.join(NAMES)}")
    options = parser.parse_args(arguments)
    if unknown := set(options.rivals) - {*NAMES}:
        parser.error(f"no such rival: {', '.join(sorted(unknown))}")
    for name in options.rivals or NAMES:
        venv.create(options.folder / name, with_pip=True)
        command = [str(python_of(options.folder, name)), "-m", "pip", "install", "--quiet"]
        subprocess.run([*command, "-r", str(RIVALS / f"{name}.txt")], check=True)
    return 0


def python_of(folder: Path, name: str) -> Path:
    """The Python of a rival's environment below `folder`, whether it is there or not."""
    return folder / name / "bin" / "python"


def version_of(name: str) -> str:
    """The name and pinned version of a rival, or of what a script needs most."""
    package, shown = ("torch", "a script, torch") if name == "usual-script" else (name, name)
    lines = (RIVALS / f"{name}.txt").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith(f"{package}==")]
    return found.replace(f"{package}==", f"{shown} ")


if __name__ == "__main__":
    sys.exit(main())
