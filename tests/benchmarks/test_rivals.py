"""Rivals are measured on the same files, and their mistakes are counted."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import against_rivals
import limit
import numpy as np
import pytest
import rival_environments
import rival_sides
from checkpoints import write_checkpoint
from rival_sides import Side
from safetensors.numpy import load_file, save_file
from unet import NamedShape
from wrong_elements import wrong_elements

SMALL = [NamedShape("a", (3, 5)), NamedShape("b", (7,))]


def test_elements_are_compared_bit_by_bit_whatever_the_shards(tmp_path):
    exact, shards = tmp_path / "exact.safetensors", tmp_path / "shards"
    shards.mkdir()
    values = {"a": np.zeros(4, np.float16), "b": np.arange(3, dtype=np.float32)}
    save_file(values, exact)
    save_file({"a": np.array([0, -0.0, 0, 1], np.float16)}, shards / "1.safetensors")
    save_file({"b": values["b"]}, shards / "2.safetensors")
    assert wrong_elements(exact, shards) == (2, 7)
    assert wrong_elements(exact, exact) == (0, 7)
    (shards / "2.safetensors").unlink()
    with pytest.raises(ValueError, match="other tensors"):
        wrong_elements(exact, shards)


WRITES_THE_FIRST = "import shutil, sys; shutil.copy(sys.argv[2], sys.argv[1])"


def copying(paths, out):
    return [sys.executable, "-c", WRITES_THE_FIRST, str(out), *map(str, paths)]


@pytest.mark.skipif(limit.compiler() is None, reason="the limit needs a C compiler")
def test_all_sides_take_turns_and_what_is_not_the_mean_is_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(against_rivals, "stable_diffusion_unet", lambda model: SMALL)
    soupctl = [sys.executable, "-m", "soupctl"]
    sides = [*rival_sides.installed_sides(soupctl, tmp_path), Side("copies", "1.0", copying)]
    monkeypatch.setattr(against_rivals, "installed_sides", lambda *_: sides)
    result = tmp_path / "result.json"
    words = [str(tmp_path), "sd15-f16-2", "--runs", "1", "--folder", str(tmp_path)]
    assert against_rivals.main([*words, "-o", str(result), "--soupctl", shlex.join(soupctl)]) == 0

    assert " 1.0 " in capsys.readouterr().out
    (case,) = json.loads(result.read_text())["cases"]
    ours, limit_, copies = case["sides"]
    assert [ours["wrong"], "wrong" in limit_, copies["elements"]] == [0, False, 22]
    assert copies["wrong"] > 10
    assert all(side["wall_s"][0] > 0 and side["anonymous_mib"] > 0 for side in (ours, copies))
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_rival_without_an_environment_is_left_out(tmp_path):
    python = rival_environments.python_of(tmp_path, "mergekit")
    python.parent.mkdir(parents=True)
    python.touch()
    sides = rival_sides.installed_sides(["soupctl"], tmp_path)
    assert [side.name for side in sides if side.name not in ("soupctl", "limit")] == ["mergekit"]
    command = sides[-1].command([tmp_path / "x", tmp_path / "y"], tmp_path / "out")
    config = json.loads(Path(command[-2]).read_text())
    assert [model["parameters"] for model in config["models"]] == [{"weight": 1.0}] * 2


def test_each_rival_and_all_that_it_needs_have_one_version():
    for name in rival_environments.NAMES:
        lines = (rival_environments.RIVALS / f"{name}.txt").read_text().splitlines()
        assert all(line.count("==") == 1 for line in lines), name
        assert "torch==2.13.0" in lines
    assert rival_environments.version_of("mergekit") == "mergekit 0.1.5"
    assert rival_environments.version_of("usual-script") == "a script, torch 2.13.0"


def test_a_part_of_a_model_has_tensors_of_all_sorts_and_always_the_same(tmp_path):
    paths = against_rivals.RivalCase("sdxl", "F16", 2, 200).write(tmp_path)
    tensors = [load_file(path) for path in paths]
    assert tensors[0].keys() == tensors[1].keys()
    assert len(tensors[0]) == 8
    assert len({tensor.ndim for tensor in tensors[0].values()}) > 1
    assert len({case.name for case in against_rivals.CASES}) == len(against_rivals.CASES)


def test_a_checkpoint_of_the_benchmark_is_read_as_what_it_is(tmp_path):
    write_checkpoint(tmp_path / "x.safetensors", SMALL, "BF16", 0)
    assert wrong_elements(tmp_path / "x.safetensors", tmp_path / "x.safetensors") == (0, 22)
