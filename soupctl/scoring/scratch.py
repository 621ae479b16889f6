"""The folder beside the output in which candidates are made, which is gone when the work ends.

Rule 1: a folder is removed only if its mark says that it is a scratch folder, or it is empty.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..checkpoints.layout import SUFFIXES
from ..errors import OutputError
from ..storage.place import refusing

CANDIDATE = "candidate"
MARK = ".soupctl-scratch"
"""The file by which a scratch folder is known."""
SUM = r"\.[0-9a-f]{12}\.sum"


class ScratchFolder:
    """Places for candidates, each of which is used once."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder = folder
        self._suffix = suffix
        self._made = 0

    def place(self) -> Path:
        """The path of a new candidate."""
        self._made += 1
        return self._folder / f"{CANDIDATE}-{self._made}{self._suffix}"

    def remove(self, place: Path) -> None:
        """Remove a candidate and its kept sum, if they exist."""
        with refusing(self._folder):
            pattern = re.compile(f"{re.escape(place.name)}({SUM})?")
            for each in sorted(self._folder.iterdir()):
                if pattern.fullmatch(each.name):
                    _remove(each)


@contextmanager
def scratch_folder(output: Path, command: str) -> Iterator[ScratchFolder]:
    """A new folder beside `output`; what a killed command left there is removed.

    Candidates are named like files if the output is. Raises OutputError for a folder that holds
    anything else.
    """
    folder = output.with_name(f".{output.name}.{command}")
    suffix = output.suffix if output.suffix in SUFFIXES else ""
    with refusing(folder):
        if os.path.lexists(folder):
            _clear(folder)
        folder.mkdir()
        (folder / MARK).touch()
    try:
        yield ScratchFolder(Path(os.path.abspath(folder)), suffix)
    finally:
        # whatever a scorer wrote beside a candidate goes as well
        shutil.rmtree(folder, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Remove the scratch folder of a command that was killed; OutputError for any other."""
    is_folder = stat.S_ISDIR(folder.lstat().st_mode)
    names = [each.name for each in folder.iterdir()] if is_folder else []
    if not is_folder or (names and MARK not in names):
        raise OutputError("exists and is no scratch folder", path=folder, advice="move it away")
    shutil.rmtree(folder)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
