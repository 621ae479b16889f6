"""Training, sampling and stacking as functions of `soupctl.verbs`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from soupctl import verbs
from soupctl.errors import UsageError

WORDS = ("--steps", 2, "--batch-size", 2)
OPTIONS = {"steps": 2, "batch_size": 2}


@pytest.fixture
def plain(soupctl, bases, shards):
    """Base and data of the simplest family; the working folder is empty."""
    return bases["plain"], shards["plain"]


def weights(folder: str) -> dict[str, bytes]:
    found = sorted(Path(folder).rglob("*.safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_finetune_from_python_equals_the_command(soupctl, plain):
    base, data = plain
    done = soupctl("finetune", base, "--data", data, "-o", "command", *WORDS)
    trained = verbs.finetune(base, data, "python", **OPTIONS)

    assert done.code == 0, done.err
    assert (Path("python"), 2, False) == (trained.output, trained.steps, trained.was_complete)
    assert weights("command/model") == weights("python/model")


def test_patch_dmp_and_stack_from_python_equal_the_commands(soupctl, plain):
    base, data = plain
    done = soupctl("patch-dmp", base, "--data", data, "-o", "command", *WORDS)
    verbs.patch_dmp(base, data, "python", **OPTIONS)
    stacked = verbs.stack(["command", verbs.Ingredient("python", Fraction(1, 2))], "both")
    left = verbs.leave_out_bank("both", "python", "left")

    assert done.code == 0, done.err
    assert weights("command/bank") == weights("python/bank")
    assert {"command": 1, "python": Fraction(1, 2)} == stacked
    assert {"command": 1} == left
    assert weights("command/bank") == weights("left/command")


def test_sample_from_python_equals_the_command(soupctl, plain):
    base, _ = plain
    done = soupctl("sample", base, "--steps", 2, "--images", 2, "-o", "command.png")
    names = verbs.sample([base], "python.png", steps=2, images=2)

    assert done.code == 0, done.err
    assert (base.name,) == names
    assert Path("command.png").read_bytes() == Path("python.png").read_bytes()


def test_an_unknown_option_and_a_wrong_value_are_refused(plain):
    with pytest.raises(TypeError, match="no such option: step"):
        verbs.finetune(*plain, "run", step=2)
    with pytest.raises(UsageError, match="steps must be"):
        verbs.finetune(*plain, "run", steps=0)

    assert not Path("run").exists()
