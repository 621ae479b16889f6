"""The machine and the versions that a result was measured with, without names of either's owner.

Rule 1: no host name, no user name, no absolute path.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_bytes() -> int:
    """The memory that this process may count on: the machine's, or its control group's limit."""
    meminfo = Path("/proc/meminfo").read_text()
    total = int(re.findall(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)[0]) * 1024
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return total if limit == "max" else min(total, int(limit))


def filesystem(folder: Path) -> str:
    """The type of the filesystem that holds `folder`."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0]
    return "unknown"


def described_machine(folder: Path) -> dict[str, str | int | float]:
    """What speed depends on: processor, cores, memory, the filesystem of `folder`, kernel."""
    models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "filesystem": filesystem(folder),
        # the numbers alone: what follows them may name the machine
        "kernel": ".".join(re.findall(r"\d+", platform.release())[:2]),
    }


def described_versions(soupctl: Sequence[str], rival_python: str) -> dict[str, str | None]:
    """Versions of what was measured; `torch` is the rival's, None if it has none."""
    return {
        "soupctl": _said_by([*soupctl, "--version"]),
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "torch": _said_by(
            [rival_python, "-c", "import importlib.metadata as m; print(m.version('torch'))"]
        ),
    }


def described_run(folder: Path) -> dict[str, object]:
    """Date, machine and versions of a benchmark that soupctl ran in this very Python."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": described_machine(folder),
        "versions": described_versions([sys.executable, "-m", "soupctl"], sys.executable),
    }


def _commit() -> str | None:
    here = Path(__file__).parent.parent
    commit = _said_by(["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"])
    rooms = ("soupctl", "kernels")
    changed = _said_by(["git", "-C", str(here), "status", "--porcelain", "--", *rooms])
    return f"{commit} with changes" if commit and changed else commit


def _said_by(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
