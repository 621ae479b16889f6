"""What this machine has for soupctl, and whether every engine computes right on it."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..engines.contract import Engine
from ..errors import SoupError
from ..frozen import frozen
from ..storage.files import free_space
from ..workers import STAGING, ExecutionOptions, available_cores
from .engine import engine_of

PACKAGES = (
    *("numpy", "numba", "safetensors", "blake3", "typer", "rich", "pyyaml"),
    *("torch", "triton", "diffusers", "transformers", "accelerate", "matplotlib", "pillow"),
)
"""The packages that soupctl or an extra of it uses, those that it always needs first."""
CPU_FACTS = Path("/proc/cpuinfo")
FEATURES = ("sse4_2", "avx2", "fma", "f16c", "avx512f", "avx512bw", "amx_bf16", "asimd", "sve")
"""Features of processors that the compiler of the kernels may use."""


@frozen
class EngineCheck:
    """The self-test of one engine."""

    name: str
    tested: int
    """Means that were computed; 0 for an engine that is not there."""
    failed: tuple[str, ...]
    why_absent: str = ""


@frozen
class Checkup:
    """What a machine has, and the self-tests of the engines on it."""

    python: str
    system: str
    packages: tuple[tuple[str, str | None], ...]
    """Their versions; None for one that is not installed."""
    cores: int
    features: tuple[str, ...]
    free: tuple[tuple[str, int | None], ...]
    """Bytes free in the working folder, and in the temporary one; None if unknown."""
    engines: tuple[EngineCheck, ...]

    @property
    def is_sound(self) -> bool:
        """Whether every engine that is there computes right."""
        return not any(each.failed for each in self.engines)


def check_up() -> Checkup:
    """Look at this machine, and test every engine that it has.

    Raises LimitError for too little memory to compute at all.
    """
    engine, _ = engine_of(ExecutionOptions(1))
    temporary = tempfile.gettempdir()
    return Checkup(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=tuple((name, _version(name)) for name in PACKAGES),
        cores=available_cores(),
        features=_features(),
        free=(("working folder", _free(Path())), ("temporary folder", _free(Path(temporary)))),
        engines=(_checked(engine, engine.name), *_on_gpus()),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _features() -> tuple[str, ...]:
    """The known features of the processor; empty where the system does not tell them."""
    try:
        text = CPU_FACTS.read_text("utf-8", "replace")
    except OSError:
        return ()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    own = set(found[1].split()) if found else set()
    return tuple(name for name in FEATURES if name in own)


def _free(folder: Path) -> int | None:
    try:
        return free_space(folder)
    except OSError:
        return None


def _checked(engine: Engine, name: str) -> EngineCheck:
    from ..engines.self_test import failures, mean_count

    return EngineCheck(name, mean_count(), tuple(failures(engine)))


def _on_gpus() -> tuple[EngineCheck, ...]:
    """The self-test on every GPU that torch and triton see."""
    from ..engines.choice import count_gpus

    if os.environ.get("TRITON_INTERPRET") == "1":
        return (EngineCheck("triton", 0, (), "TRITON_INTERPRET=1 runs kernels without a device"),)
    try:
        count = count_gpus()
    except SoupError as error:
        return (EngineCheck("triton", 0, (), error.message()),)
    return tuple(
        _on_gpu(gpu, f"triton, GPU {gpu}" if count > 1 else "triton") for gpu in range(count)
    )


def _on_gpu(gpu: int, name: str) -> EngineCheck:
    from ..engines.choice import open_engine

    try:
        return _checked(open_engine((gpu,), STAGING), name)
    except SoupError as error:
        return EngineCheck(name, 0, (), error.message())
