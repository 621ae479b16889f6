"""Compiled kernels, kept on disk for the next process, which loads them without a compiler.

Rule 1: a kept kernel is used only if it is whole, was compiled from these very sources by these
very tools for this very processor, and for these kinds of arguments.
Rule 2: it is kept in the user's cache folder (or the one that NUMBA_CACHE_DIR names); where that
cannot be written it is compiled anew, and no other folder is touched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sys
import threading
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
from llvmlite import binding

from ..kernels import tables

LOCK = threading.Lock()
LOG = logging.getLogger(__name__)
COMPILING = "compiling kernels for this machine (once; later runs load them)"
SUM_LENGTH = hashlib.sha256().digest_size


@cache
def native_address(name: str, *kinds: str) -> int:
    """The address of a kernel, a C function.

    `name` is that of its module and its own, as in "sums.add_bounded"; `kinds` are what the
    module's table of signatures asks for.
    """
    with LOCK:
        symbol = entry_name(name, kinds)
        root = cache_folder()
        code = None if root is None else kept_code(root / symbol)
        if code is None:
            LOG.info(COMPILING)
            # imported late, as most runs need no compiler
            from .compilation import compiled_kernel  # noqa: PLC0415

            code = compiled_kernel(name, kinds, symbol)
            if root is not None:
                # a folder that cannot be written, a full disk
                with suppress(OSError):
                    keep(code, root / symbol)
        return loaded(code, symbol)


def kept_code(path: Path) -> bytes | None:
    """The object code that is kept at `path`; None if there is none, or it is not whole."""
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    digest, code = kept[:SUM_LENGTH], kept[SUM_LENGTH:]
    return code if digest == hashlib.sha256(code).digest() else None


def keep(code: bytes, path: Path) -> None:
    """Keep object code at `path` for the next process, in one step; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        fresh.write_bytes(hashlib.sha256(code).digest() + code)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def loaded(code: bytes, symbol: str) -> int:
    """The address of the function `symbol` of object code."""
    # an engine for each: two kernels may hold different functions of one name
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    ALIVE.append(engine)
    return int(engine.get_function_address(symbol))


# code is freed with its engine
ALIVE: list[Any] = []


@cache
def machine() -> Any:
    """The processor as LLVM knows it."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(jit=True)


def cache_folder() -> Path | None:
    """Where kernels are kept; None for a user without a home."""
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
    """A name that differs for whatever may make the compiled code differ."""
    facts = [name, kinds, toolchain()]
    return "kernel_" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


@cache
def toolchain() -> str:
    """What all entries depend on: sources, tools, processor."""
    kernels = sorted(Path(tables.__file__).parent.glob("*.py"))
    files = [*kernels, Path(__file__).with_name("compilation.py")]
    sources = [(path.name, path.read_text()) for path in files]
    tools = [sys.version, compiler_version(), llvmlite.__version__]
    processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    facts = [sources, tools, processor]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def compiler_version() -> str:
    """What says which numba is installed, without loading it."""
    found = find_spec("numba")
    if found is None or found.origin is None:
        return ""
    # versioneer's file; another one may lack it, and then its age tells
    stated = Path(found.origin).with_name("_version.py")
    with suppress(OSError):
        return stated.read_text()
    return str(Path(found.origin).stat().st_mtime_ns)
