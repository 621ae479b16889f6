"""What takes turns: soupctl, and the commands that it is measured against."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import limit
from cases import Versus
from files import Files

RIVAL = Path(__file__).parent / "rivals" / "usual_script.py"


@dataclass(frozen=True, slots=True)
class Subjects:
    """The commands of one run of the benchmark."""

    soupctl: tuple[str, ...]
    rival_python: str

    def ours(self, words: Sequence[str], files: Files) -> list[str]:
        """The command of soupctl whose arguments are `words`."""
        return [*self.soupctl, *files.arguments(words)]

    def theirs(self, versus: Versus, files: Files) -> list[str]:
        """The command that takes turns with it in the same folder."""
        match versus:
            case Versus.LIMIT:
                return limit.command(files.inputs, [files.out])
            case Versus.SCRIPT:
                inputs = map(str, files.inputs)
                return [self.rival_python, str(RIVAL), str(files.out), *inputs]
            case Versus.PYTHON:
                return [sys.executable, "-c", "pass"]
            case Versus.REAVERAGING | Versus.PLAIN:
                assert versus.command is not None
                return self.ours(versus.command, files)

    def missing(self, versus: Versus | None) -> str | None:
        """What `versus` lacks to be run here, or None."""
        if versus is Versus.LIMIT and limit.compiler() is None:
            return "the limit needs a C compiler (CC)"
        if versus is not Versus.SCRIPT:
            return None
        find = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"
        found = subprocess.run([self.rival_python, "-c", find], capture_output=True, check=False)
        return None if found.returncode == 0 else "the usual script needs torch (--rival-python)"
