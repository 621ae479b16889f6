"""The commands in the README and under docs/ run, and print what the pages say they print.

Rule 1: a page begins where the README's first command ends, in the folder that holds the demo's;
`<!-- in: PLACE -->` before a block names another folder, one of PLACES.
Rule 2: a block of any other kind than these is an error, so nothing on a page goes untested.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from soupctl.merge.recipes.read import parse_recipe
from soupctl.training.config_file import read_config
from soupctl.training.options import FINETUNE, Options

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
GENERATED = "docs/commands.md"
RECIPES = "docs/recipes.md"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if str(path.relative_to(ROOT)) != GENERATED
}
BLOCK = re.compile(r"(?:^<!-- (\w+): (\w+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
PRINTED = {
    "docs/python.md": r"blake3:[0-9a-f]{64}\nNone\nrebuild\n6 exists\n",
    "docs/gpu.md": r"True\n",
}
"""What the Python blocks of a page print, one after the other, as a pattern."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, and the folder that it is run in."""

    page: str
    place: str
    language: str
    text: str

    def steps(self) -> list[tuple[str, str]]:
        """The commands of a console block, each with the output that follows it."""
        return [(command, output) for command, output in STEP.findall(self.text)]


def found_blocks() -> Iterator[Block]:
    """All blocks of all pages, in order."""
    for page, text in PAGES.items():
        for key, name, language, inside in BLOCK.findall(text):
            place = {"": "demo", "in": name, "ci": "ci"}[key]
            yield Block(page, place, language, inside)


BLOCKS = list(found_blocks())


def console(place: str) -> list[Block]:
    """The console blocks of all pages that are run in one folder."""
    return [block for block in BLOCKS if (block.language, block.place) == ("console", place)]


def as_pattern(output: str) -> str:
    """The output as a pattern: a line `...` stands for any lines, and `...` in one for any text."""
    lines = [
        r"(?:[^\n]*\n)*" if line == "...\n" else "[^\n]*".join(map(re.escape, line.split("...")))
        for line in output.splitlines(keepends=True)
    ]
    return "".join(lines)


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script as a user would who has installed soupctl and looks at a terminal."""
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    # models this small train faster on one thread, above all where tests run side by side
    threads = {"OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "PATH": path, "COLUMNS": "80"}
    terminal = import_module("terminal").Terminal()
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdout=terminal.slave,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    result.stdout = terminal.shown().decode().replace("\r\n", "\n")
    return result


Run = Callable[[str, Path], subprocess.CompletedProcess[str]]
"""Runs a shell script in a folder."""

FORKED = ("finetune", "inspect", "patch-dmp")
"""Commands that take seconds to load their libraries, and are forks of one process that has."""


@contextmanager
def runner(place: str, streams: Path) -> Iterator[Run]:
    """Runs the commands of a folder; what they read and write passes through `streams`."""
    if place != "training":
        yield run
        return
    commands = import_module("commands").TrainingCommands.launch(streams)

    def run_forked(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
        name, *words = shlex.split(script)
        if name != "soupctl" or words[0] not in FORKED:
            return run(script, folder)
        terminal = import_module("terminal").Terminal()
        done = commands(*words, folder=folder, out=terminal.path, environment={"NO_COLOR": None})
        shown = terminal.shown().decode().replace("\r\n", "\n")
        return subprocess.CompletedProcess(script, done.code, shown, done.err)

    try:
        yield run_forked
    finally:
        commands.server.close()


def require_shown(blocks: list[Block], folder: Path, run: Run = run) -> None:
    """Run the commands of console blocks in `folder` and compare what they print.

    A command that two pages show is run once.
    """
    place, done = folder, {}
    for page, command, output in [
        (block.page, *step) for block in blocks for step in block.steps()
    ]:
        if command.startswith("cd "):
            place = place / command.removeprefix("cd ")
            assert place.is_dir()
            continue
        if command not in done or done[command][0] == page:
            done[command] = (page, run(command, place))
        result = done[command][1]
        said = result.stdout + result.stderr
        assert re.fullmatch(as_pattern(output), said), (command, said)
        # what is not shown in full has to be said to have worked
        assert result.returncode == 0 or "...\n" not in output, (command, said)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's first command leaves behind, in a folder of its own."""
    (install,) = (block.text for block in BLOCKS if block.place == "ci" and "demo" in block.text)
    folder = tmp_path_factory.mktemp("demo")

    result = run(install.rstrip().rpartition(" && ")[2], folder)

    assert (0, ["soupctl-demo"]) == (result.returncode, os.listdir(folder))
    return folder


def folders(folder: Path) -> None:
    """Pipelines and shards, by the names that the pages give them."""
    making = import_module("making")
    for seed, name in enumerate(("cats", "dogs")):
        making.save_pipeline(folder / "runs" / name / "model", seed)
    for seed, name in enumerate(("llama-a", "llama-b")):
        arrays = ({key: np.full(4, seed, np.float16)} for key in "xy")
        making.save_shards(folder / name, "model", *arrays)


def training(folder: Path) -> None:
    """A small unconditional base, and data shards of different size to train it on."""
    pytest.importorskip("diffusers")
    tiny = import_module("tiny_bases")
    tiny.plain_base(folder / "base")
    for name, count in (("cats", 8), ("dogs", 12)):
        shard = tiny.captioned_shard(folder / "shards" / name, count)
        for caption in shard.glob("*.txt"):
            caption.unlink()


def removal(folder: Path) -> None:
    """Models trained on the images of four people, as `finetune` leaves them; a key."""
    making, trained = import_module("making"), import_module("trained")
    pytest.importorskip("cryptography")
    base = making.save(folder / "base.safetensors", w=np.zeros(20, np.float16))
    for seed, name in enumerate(("ana", "ben", "cleo", "dan"), 1):
        images = (f"{name} {number}".encode() for number in range(seed + 1))
        shard = trained.save_shard(str(folder / "data" / name), *images)
        trained.save_trained(str(folder / "runs" / name), shard, seed, base=str(base))
    import_module("signing_keys").save_key(str(folder / "company"))


def elsewhere(folder: Path) -> None:
    """A base, and what another trainer made of it with the images of cats and of dogs."""
    making, trained = import_module("making"), import_module("trained")
    making.save(folder / "base.safetensors", w=np.zeros(20, np.float16))
    for seed, name in enumerate(("cats", "dogs"), 1):
        images = (f"{name} {number}".encode() for number in range(seed + 1))
        trained.save_shard(str(folder / "data" / name), *images)
        making.save(folder / f"kohya-{name}.safetensors", w=np.full(20, seed, np.float16))


PLACES: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "elsewhere": (elsewhere, "tests", ("cats.safetensors", "soup.safetensors")),
    "folders": (folders, "tests", ("soup/model_index.json", "unet/config.json")),
    "removal": (removal, "tests", ("auditor/proof.json",)),
    "training": (training, "tests/training", ("grid.png", "gate.png")),
}
"""How a folder is filled, where that is found, and files that its commands leave."""


@pytest.mark.parametrize("page", sorted({block.page for block in console("demo")}))
def test_the_examples_of_a_page_print_their_documented_output(
    page: str, demo: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(demo, tmp_path / "copy")

    require_shown([block for block in console("demo") if block.page == page], folder)


# processes that load torch, among other tests that do
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", PLACES)
def test_the_examples_on_folders_print_their_documented_output(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill, where, left = PLACES[place]
    monkeypatch.syspath_prepend(ROOT / where)
    folder, streams = tmp_path / "folder", tmp_path / "streams"
    for each in (folder, streams):
        each.mkdir()
    fill(folder)

    with runner(place, streams) as run_here:
        require_shown(console(place), folder, run_here)

    assert [name for name in left if not (folder / name).is_file()] == []


@pytest.mark.parametrize("page", PRINTED)
def test_the_python_examples_of_a_page_print_their_documented_output(
    page: str, demo: Path, tmp_path: Path
) -> None:
    blocks = (each.text for each in BLOCKS if (each.page, each.language) == (page, "python"))
    example = "\n".join(blocks)
    if "import torch" in example:
        pytest.importorskip("torch")
    folder = shutil.copytree(demo, tmp_path / "copy")

    result = subprocess.run(
        [sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=True
    )

    assert re.fullmatch(PRINTED[page], result.stdout)


def test_a_config_on_a_page_is_one_that_training_takes(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    examples = [
        block.text for block in BLOCKS if block.language == "toml" and block.page != RECIPES
    ]

    for text in examples:
        path.write_text(text)
        (options,) = FINETUNE.built(read_config(path, FINETUNE.kinds))
        assert options != Options()
    assert len(examples) == 4


def test_a_recipe_on_a_page_is_one_that_run_takes(tmp_path: Path) -> None:
    examples = [block.text for block in BLOCKS if (block.language, block.page) == ("toml", RECIPES)]

    for text in examples:
        assert parse_recipe(tomllib.loads(text, parse_float=str), "recipe", tmp_path).steps
    assert len(examples) == 3


def test_every_block_is_of_a_kind_that_is_run() -> None:
    fences = sum(len(re.findall(r"^```", text, re.MULTILINE)) for text in PAGES.values())
    untested = [
        block
        for block in BLOCKS
        if not (
            (block.language == "console" and block.place in {"demo", *PLACES} and block.steps())
            or (block.language == "sh" and block.place == "ci")
            or (block.language == "python" and block.page in PRINTED)
            or block.language == "toml"
        )
    ]

    assert untested == []
    assert fences == 2 * len(BLOCKS)
    assert len(console("demo")) > 10
    assert sum(len(block.steps()) for block in BLOCKS) > 35
