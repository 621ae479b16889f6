"""The README's commands run, and print what it says they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
TRAINING = (
    "soupctl finetune",
    "soupctl avg runs/*/model",
    "soupctl patch-dmp",
    "soupctl sample",
    "soupctl inspect patch",
)
"""How the commands begin that need a base and what was trained from it."""


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def steps(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that follows it."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    return [(command, output) for command, output in found]


def as_pattern(output: str) -> str:
    """The output as a pattern in which `...` stands for anything."""
    return ".*".join(map(re.escape, output.split("...")))


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script as a user would who has installed soupctl."""
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80"}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tour_prints_what_the_readme_says(tmp_path):
    tour = [step for block in blocks("console") for step in steps(block)]
    place = tmp_path

    assert len(tour) > 10
    for command, output in tour:
        if command.startswith("cd "):
            place = place / command.removeprefix("cd ")
            continue
        result = run(command, place)
        said = result.stdout + result.stderr
        assert re.fullmatch(as_pattern(output), said, re.DOTALL), (command, said)


def test_the_commands_on_folders_work(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests")
    making = import_module("making")
    for seed, name in enumerate(("cats", "dogs")):
        making.save_pipeline(tmp_path / "runs" / name / "model", seed)
    for seed, name in enumerate(("llama-a", "llama-b")):
        arrays = ({key: np.full(4, seed, np.float16)} for key in "xy")
        making.save_shards(tmp_path / name, "model", *arrays)
    commands = [
        line.partition("#")[0]
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("soupctl ") and not line.startswith(TRAINING)
    ]

    assert len(commands) == 3
    assert [run(command, tmp_path).returncode for command in commands] == [0, 0, 0]
    assert (tmp_path / "soup" / "model_index.json").is_file()
    assert (tmp_path / "unet" / "config.json").is_file()


def test_training_ingredients_and_averaging_them_works(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "training")
    pytest.importorskip("diffusers")
    tiny = import_module("tiny_bases")
    tiny.plain_base(tmp_path / "base")
    for name in ("cats", "dogs"):
        tiny.captioned_shard(tmp_path / "shards" / name, count=2)
    commands = [
        line for block in blocks("sh") for line in block.splitlines() if line.startswith(TRAINING)
    ]

    assert len(commands) == 5
    assert [run(command, tmp_path).returncode for command in commands] == [0, 0, 0, 0, 0]
    assert (tmp_path / "trained-soup" / "model_index.json").is_file()
    assert (tmp_path / "grid.png").is_file()
    assert (tmp_path / "gate.png").is_file()


def test_every_block_of_the_readme_is_of_a_kind_that_is_run():
    kinds = re.findall(r"^```(\w+)$", README, re.MULTILINE)

    assert set(kinds) == {"sh", "console", "python"}


def test_the_python_example_prints_a_digest(tmp_path):
    example, _ = blocks("python")

    assert run("soupctl demo", tmp_path).returncode == 0
    result = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"blake3:[0-9a-f]{64}\n", result.stdout)


def test_the_python_example_with_tensors_takes_out_what_it_added():
    pytest.importorskip("torch")
    _, example = blocks("python")

    result = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=True
    )
    assert result.stdout == "True\n"


def test_every_command_and_option_that_the_readme_names_exists():
    rows = re.findall(r"^\| `soupctl ([\w-]+)", README, re.MULTILINE)

    life = ["add", "subtract", "swap", "has", "log", "verify"]
    assert rows == [
        "avg",
        *life,
        "inspect",
        "hash",
        "finetune",
        "patch-dmp",
        "stack",
        "sample",
        "demo",
    ]
    options = set(re.findall(r"`[^`]*?(--[a-z][a-z-]+)", README)) - {"--help"}
    said = "".join(run(f"soupctl {row} --help", ROOT).stdout for row in rows)
    assert [option for option in sorted(options) if option not in said] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_ci_runs_the_readmes_own_commands():
    script = (ROOT / ".ci" / "run").read_text("utf-8")

    assert "readme_command install" in script
    assert "readme_command test" in script
    assert README.count("<!-- ci: install -->") == README.count("<!-- ci: test -->") == 1
