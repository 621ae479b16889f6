"""A command on small files loads what it needs: loading is most of its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from making import save
from processes import started
from revising import average

LIST = """
import sys
from soupctl.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules), file=sys.stderr)
"""
SLOW = {"PIL", "llvmlite", "numba", "numpy", "rich", "torch", "yaml"}
SLOW |= {"concurrent", "csv", "filecmp", "hashlib", "logging", "tempfile", "tomllib"}
LOADING = {"llvmlite", "logging", "tempfile"}
"""What loads compiled kernels, or is loaded by it."""

ASKING = "checkpoints kinds ledger lora merge"
AVERAGING = "checkpoints kinds ledger merge methods"


@pytest.fixture
def soup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checkpoints and their soup, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.st", "b.st")):
        save(tmp_path / name, w=np.full(5000, seed / 4, np.float16))
    average("soup.st", "a.st", "b.st")


@pytest.mark.parametrize(
    ("words", "most", "rooms"),
    [
        (("hash", "soup.st"), 72, "checkpoints ledger"),
        (("has", "soup.st", "a.st"), 100, ASKING),
        (("log", "soup.st"), 100, ASKING),
        (("inspect", "soup.st"), 118, f"{ASKING} banks"),
        (("avg", "a.st", "b.st", "-o", "new.st", "--keep-sum"), 202, AVERAGING),
        (("avg", "a.st", "b.st", "-o", "new.st"), 202, AVERAGING),
    ],
)
def test_a_command_loads_few_modules(soup, words, most, rooms):
    with started(
        sys.executable, "-c", LIST, *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        loaded = process.stderr.read().decode().split()
        assert process.wait() == 0, loaded
    own = {each.removeprefix("soupctl.") for each in loaded if each.startswith("soupctl.")}
    libraries = {each.partition(".")[0] for each in loaded}
    everywhere = {"choices", "cli", "collector", "errors", "format", "frozen", "pattern"}
    everywhere |= {"storage", "verbs", "workers"}
    computing = {"engines", "kernels"} if words[0] == "avg" else set()
    # options of commands are described in the room of training
    entered = {each.partition(".")[0] for each in own} - {"training"}
    assert entered <= everywhere | computing | {*rooms.split()}
    assert libraries & SLOW <= (LOADING if computing else set())
    assert len(own) <= most
