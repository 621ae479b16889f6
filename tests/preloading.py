"""The environment that makes the system's calls fail in a process; tests/fault/shim.c says how."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fault") / "shim.c"


def preloading(folder: Path) -> dict[str, str]:
    """The variables that preload the shim, which is compiled into this folder."""
    if sys.platform != "linux":
        pytest.skip("the shim preloads into glibc")
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler")
    # no -Werror: what a newer compiler warns of is not what is tested
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", folder / "shim.so", SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    # a blank in the path would end it in LD_PRELOAD
    places = filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")])
    return {"LD_PRELOAD": "shim.so", "LD_LIBRARY_PATH": os.pathsep.join(places)}
