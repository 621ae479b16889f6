"""Tiny bases built once a session, data shards, and runs of training in this process.

Rule 1: nothing comes from a network: the hub is offline, and a socket that connects is a failure.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# before a library is imported, which reads them once
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"
# lets these tests import the modules beside them and beside their folder
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

# what these tests need is the `train` extra
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _refusing(getattr(socket.socket, name)))


@pytest.fixture(autouse=True)
def scans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of kept scans, which is not the user's."""
    folder = tmp_path / "kept" / "scans"
    monkeypatch.setattr("soupctl.training.kept_scan.cache_folder", lambda: folder)
    monkeypatch.setattr("soupctl.storage.cache.user_cache", lambda: folder.parent)
    return folder


def _refusing(connect: Callable[..., object]) -> Callable[..., object]:
    def refuse(self: socket.socket, address: object) -> object:
        # what workers talk by leads nowhere else
        assert self.family == socket.AF_UNIX, f"a test connects to {address}"
        return connect(self, address)

    return refuse


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The builders of bases and data; their libraries imported, quiet, and on one thread."""
    models = pytest.importorskip("tiny_bases")
    models.quieten()
    models.torch.set_num_threads(1)
    return models


@pytest.fixture(scope="session")
def bases(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base of each family."""
    folder = tmp_path_factory.mktemp("bases")
    return {
        "text": tiny.text_base(folder / "text"),
        "class": tiny.class_base(folder / "class"),
        "dit": tiny.dit_base(folder / "dit"),
        "plain": tiny.plain_base(folder / "plain"),
    }


@pytest.fixture(scope="session")
def families(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base of each family with several text encoders."""
    builders = pytest.importorskip("tiny_family_bases")
    folder, names = tmp_path_factory.mktemp("families"), ("sdxl", "sd3", "sd3_clip", "flux")
    return {name: getattr(builders, f"{name}_base")(folder / name) for name in (*names, "schnell")}


@pytest.fixture(scope="session")
def shards(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data shard for each family."""
    folder = tmp_path_factory.mktemp("shards")
    captioned = tiny.captioned_shard(folder / "captioned")
    classes = tiny.class_shard(folder / "classes")
    return {"text": captioned, "class": classes, "dit": classes, "plain": captioned}


@pytest.fixture(scope="session")
def running(tiny: ModuleType) -> ModuleType:
    """Runs of training in this process."""
    module = pytest.importorskip("running")
    # as after collection, for the libraries that came later
    gc.collect()
    gc.freeze()
    return module


@pytest.fixture
def trained(
    running: ModuleType, bases: dict[str, Path], shards: dict[str, Path]
) -> Callable[..., Any]:
    """Trains the base of a family into a folder, and hands on what was told."""

    def run(family: str, output: Path, **more: object) -> Any:
        spy = running.ReporterSpy()
        data = more.pop("data", shards[family])
        running.run(bases[family], data, output, spy, **more)
        return spy

    return run


@pytest.fixture(scope="session")
def serving(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts commands, in processes that have the libraries loaded."""
    commands = pytest.importorskip("commands").TrainingCommands.launch(
        tmp_path_factory.mktemp("streams")
    )
    yield commands
    commands.server.close()


@pytest.fixture
def soupctl(serving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs `soupctl` with the given words in an empty folder, which is the current one."""
    serving.folder = tmp_path / "here"
    serving.folder.mkdir()
    monkeypatch.chdir(serving.folder)
    yield serving
    serving.server.end_commands()
