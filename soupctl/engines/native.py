"""Compiled kernels, kept on disk for the next process.

Rule 1: a kept kernel is used only if it is whole, was compiled from these very sources by these
very tools for this very processor, and for this one signature.
Rule 2: it is kept in the user's cache folder (or the one that NUMBA_CACHE_DIR names); where that
cannot be written it is compiled anew, and no other folder is touched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba import config
from numba.core.typing import Signature

from ..kernels import floats

Kernel = Callable[..., object]

# numba's own configuration is one for the process
LOCK = threading.Lock()
SUMS = "sums.json"
LOG = logging.getLogger(__name__)
COMPILING = "compiling kernels for this machine (once; later runs load them)"


@cache
def native_address(kernel: Kernel, signature: Signature) -> int:
    """The address of `kernel` compiled for `signature`, a C function."""
    with LOCK:
        root = cache_folder()
        if root is not None:
            # a folder that cannot be written, a full disk, an entry that another process replaces
            with suppress(OSError):
                return kept_address(root / entry_name(kernel, signature), kernel, signature)
        return compiled(kernel, signature, kept=False)


def kept_address(folder: Path, kernel: Kernel, signature: Signature) -> int:
    """The address of the kernel that is kept in `folder`, or will be; raises OSError."""
    if is_whole(folder):
        with numba_cache(folder):
            return compiled(kernel, signature, kept=True)
    LOG.info(COMPILING)
    fresh = folder.with_name(f".{secrets.token_hex(8)}.partial")
    fresh.mkdir(parents=True)
    try:
        with numba_cache(fresh):
            address = compiled(kernel, signature, kept=True)
        (fresh / SUMS).write_text(json.dumps(file_sums(fresh)))
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            # refused where another process was quicker
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return address


def compiled(kernel: Kernel, signature: Signature, *, kept: bool) -> int:
    """The address of a newly compiled or loaded kernel."""
    # numpy's error model: a division raises nothing, so that its loop can be a vector's
    function: Any = numba.cfunc(signature, cache=kept, error_model="numpy")(kernel)
    ALIVE.append(function)
    return int(function.address)


# compiled code is freed with its last reference
ALIVE: list[Any] = []


@contextmanager
def numba_cache(folder: Path) -> Iterator[None]:
    """Let numba cache compiled code in `folder`, and restore its setting afterwards."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def cache_folder() -> Path | None:
    """Where kernels are kept; None for a user without a home."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(named).absolute() / "soupctl"
    user = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: a relative path is to be ignored
    if user.is_absolute():
        return user / "soupctl" / "numba"
    try:
        return Path.home() / ".cache" / "soupctl" / "numba"
    except RuntimeError:
        return None


def entry_name(kernel: Kernel, signature: Signature) -> str:
    """A name that differs for whatever may make the compiled code differ."""
    facts = [kernel.__name__, str(signature), toolchain()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


@cache
def toolchain() -> str:
    """What all entries depend on: sources and their place, tools, processor."""
    room = Path(floats.__file__).parent
    sources = [(path.name, path.read_text()) for path in sorted(room.glob("*.py"))]
    tools = [sys.version, numba.__version__, llvmlite.__version__]
    processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    facts = [str(room), sources, tools, processor]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def is_whole(folder: Path) -> bool:
    """Whether the entry is there and as it was published."""
    try:
        kept = json.loads((folder / SUMS).read_bytes())
        return bool(kept == file_sums(folder))
    except (OSError, ValueError):
        return False


def file_sums(folder: Path) -> dict[str, str]:
    """The digest of each file below `folder`, but for the sums themselves."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
