"""A cache of compiled kernels on disk; later processes load them without a compiler.

Rule 1: a cached kernel is used only if it is complete, and was compiled from the same sources, by
the same tools, for this processor and for the same argument types.
Rule 2: the cache is in the user's cache folder, or in NUMBA_CACHE_DIR; if that cannot be written,
kernels are compiled each time, and no other folder is touched.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
from blake3 import blake3
from llvmlite import binding

from ..kernels import tables

LOCK = threading.Lock()
LOG = logging.getLogger(__name__)
COMPILING = "compiling kernels for this machine (once; later runs load them)"
SUM_LENGTH = blake3().digest_size


@cache
def native_address(name: str, *kinds: str) -> int:
    """The address of a kernel, a C function.

    `name` is that of its module and function, such as "sums.add_bounded"; `kinds` are the arguments
    of the module's signature function.
    """
    with LOCK:
        symbol = entry_name(name, kinds)
        root = cache_folder()
        code = None if root is None else kept_code(root / symbol)
        if code is None:
            LOG.info(COMPILING)
            # imported late, because most runs need no compiler
            from .compilation import compiled_kernel  # noqa: PLC0415

            code = compiled_kernel(name, kinds, symbol)
            if root is not None:
                # the folder is not writable, or the disk is full
                with suppress(OSError):
                    keep(code, root / symbol)
        return loaded(code, symbol)


def kept_code(path: Path) -> bytes | None:
    """The object code that is cached at `path`; None if there is none, or it is incomplete."""
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    digest, code = kept[:SUM_LENGTH], kept[SUM_LENGTH:]
    return code if digest == blake3(code).digest() else None


def keep(code: bytes, path: Path) -> None:
    """Cache object code at `path` for later processes, in one step; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{os.urandom(8).hex()}.partial")
    try:
        fresh.write_bytes(blake3(code).digest() + code)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def loaded(code: bytes, symbol: str) -> int:
    """The address of the function `symbol` in object code."""
    # one LLVM engine per kernel, because two kernels may define functions of the same name
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    ALIVE.append(engine)
    return int(engine.get_function_address(symbol))


# the engine owns the code
ALIVE: list[Any] = []


@cache
def machine() -> Any:
    """LLVM's description of the processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(jit=True)


def cache_folder() -> Path | None:
    """The folder of the cache; None for a user without a home."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(named).absolute() / "soupctl"
    user = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: a relative path is to be ignored
    if user.is_absolute():
        return user / "soupctl" / "kernels"
    try:
        return Path.home() / ".cache" / "soupctl" / "kernels"
    except RuntimeError:
        return None


def entry_name(name: str, kinds: tuple[str, ...]) -> str:
    """A cache name that covers everything that may change the compiled code."""
    facts = [name, kinds, toolchain()]
    return "kernel_" + blake3(json.dumps(facts).encode()).hexdigest()[:32]


@cache
def toolchain() -> str:
    """The dependencies of all cache entries: sources, tools, processor."""
    kernels = sorted(Path(tables.__file__).parent.glob("*.py"))
    files = [*kernels, Path(__file__).with_name("compilation.py")]
    sources = [(path.name, path.read_text()) for path in files]
    tools = [sys.version, compiler_version(), llvmlite.__version__]
    processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    facts = [sources, tools, processor]
    return blake3(json.dumps(facts).encode()).hexdigest()


def compiler_version() -> str:
    """The version of the installed numba, without loading it."""
    found = find_spec("numba")
    if found is None or found.origin is None:
        return ""
    # the file that versioneer writes; without it, the modification time is used
    stated = Path(found.origin).with_name("_version.py")
    with suppress(OSError):
        return stated.read_text()
    return str(Path(found.origin).stat().st_mtime_ns)
