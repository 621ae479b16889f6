"""Tiny models as the libraries save them, built once a session, and a command to average them.

Rule 1: nothing comes from a network: the hub is offline, and a socket that connects is a failure.
Rule 2: every model is built in code; models that differ by their seed alone have one architecture.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# before a library is imported, which reads them once
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# lets these tests import the modules beside them, and those above
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from soupctl.cli.main import SIGNALS, main

Run = Callable[..., str]
"""Words of a command line in, what it says on stderr out."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"a test connects to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


def _run(words: tuple[object, ...]) -> object:
    kept = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    return ended.value.code


@pytest.fixture
def average(capsys: pytest.CaptureFixture[str]) -> Run:
    """What `soupctl avg` of some words says, which must work, of what it left behind at most.

    `notes` begin the other lines that are expected.
    """

    def run(*words: object, notes: Sequence[str] = ()) -> str:
        code = _run(("avg", *words))
        said = capsys.readouterr().err
        assert code == 0
        others = [line for line in said.splitlines() if "soupctl: left behind" not in line]
        assert len(notes) == len(others)
        for note, line in zip(notes, others, strict=True):
            assert line.startswith(f"soupctl: {note}")
        return said

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `soupctl avg` of some words says, which must end with this code."""

    def run(code: int, *words: object) -> str:
        found = _run(("avg", *words))
        said = capsys.readouterr().err
        assert code == found, said
        assert said.count("\n") == 1
        return said

    return run


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The builders of tiny models; their libraries imported and quiet."""
    models = pytest.importorskip("tiny_pipelines")
    models.quieten()
    return models


def _saved(folder: Path, build: Callable[[int], Any], **options: object) -> Path:
    """A folder with what `build` makes of two seeds, saved as `a` and `b`."""
    for seed, name in enumerate("ab", 1):
        build(seed).save_pretrained(folder / name, **options)
    return folder


@pytest.fixture(scope="session")
def stable_diffusion(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Stable Diffusion pipelines: `a` and `b`."""
    return _saved(tmp_path_factory.mktemp("stable-diffusion"), tiny.stable_diffusion_pipeline)


@pytest.fixture(scope="session")
def sharded_variant(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Stable Diffusion pipelines in fp16, saved under that variant and in shards."""
    folder = tmp_path_factory.mktemp("sharded-variant")
    return _saved(folder, tiny.half_pipeline, variant="fp16", max_shard_size="20KB")


@pytest.fixture(scope="session")
def dit(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two DiT pipelines: `a` and `b`."""
    return _saved(tmp_path_factory.mktemp("dit"), tiny.dit_pipeline)


@pytest.fixture(scope="session")
def ddpm(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two unconditional pipelines: `a` and `b`."""
    return _saved(tmp_path_factory.mktemp("ddpm"), tiny.ddpm_pipeline)
