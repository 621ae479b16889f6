"""`avg --blocks` and `--sweep` at work: tables, bars, and refusals in a line."""

from __future__ import annotations

import json

import numpy as np
import pytest

NAMES = (
    "model.diffusion_model.input_blocks.1.0.weight",
    "model.diffusion_model.middle_block.1.weight",
    "cond_stage_model.x.weight",
)


@pytest.fixture(autouse=True)
def checkpoints(save):
    for number, name in enumerate("ab"):
        save(f"{name}.st", {each: np.full(4, number, np.float16) for each in NAMES})


def test_a_dry_run_shows_the_weights_by_block(soupctl, folder):
    lines = soupctl("avg", "a.st", "b.st", "-o", "out.st", "--blocks", "GRAD_V", "-n").text
    expected = [
        "blocks   default  1 tensor      100.000%    0.000%",
        "         IN01     1 tensor        8.333%   91.667%",
        "         M00      1 tensor      100.000%    0.000%",
    ]
    assert expected == lines.splitlines()[-3:]
    assert not (folder / "out.st").exists()


def test_a_dry_run_tells_scales_from_weights(soupctl):
    soupctl("delta", "b.st", "a.st", "-o", "b.delta")

    lines = soupctl("apply", "a.st", "b.delta@0.5", "-o", "out.st", "-n").text.splitlines()
    expected = [
        "         100.000%  a.st  (weight 1)",
        "          50.000%  b.delta  (scale 1/2)",
    ]
    assert expected == lines[1:3]


def test_json_has_the_exact_weights_by_block(soupctl):
    done = soupctl("avg", "a.st", "b.st", "-o", "out.st", "--blocks", "GRAD_V", "-n", "--json")
    (component,) = done.json["components"]

    row = component["blocks"][1]
    assert ("IN01", 1) == (row["block"], row["tensors"])
    assert ["833333333/10000000000", "9166666667/10000000000"] == row["weights"]
    assert [NAMES[0].replace("0.weight", "*")] == row["globs"]


def test_inspect_draws_a_bar_for_each_block_in_letters_in_a_pipe(soupctl, folder):
    (folder / "w.toml").write_text('default = [1, 1]\n[blocks]\nM00 = [0.75, "1/4"]\n')
    soupctl("avg", "a.st", "b.st", "-o", "out.st", "--blocks", "w.toml")
    lines = [line.strip() for line in soupctl("inspect", "out.st").text.splitlines()]

    assert any("blocks" in line and "# " in line and ". " in line for line in lines)
    (row,) = (line for line in lines if line.startswith("M00"))
    assert row.split()[1] in ("#" * 15 + "." * 5, "#" * 5 + "." * 15)
    found = json.loads(soupctl("inspect", "out.st", "--json").out)["checkpoints"][0]["soup"]
    assert ["default", "M00"] == [each["block"] for each in found["blocks"]]


def test_the_log_marks_ingredients_with_weights_by_block(soupctl):
    soupctl("avg", "a.st", "b.st", "-o", "out.st", "--blocks", "GRAD_V")

    text = soupctl("log", "out.st").text
    assert "(weight 1 and others by block, " in text
    assert "(weight 0 and others by block)" in soupctl("has", "out.st", "b.st").text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--blocks GRAD_X", "is not a file, preset or list of numbers (did you mean GRAD_"),
        ("--blocks nope.toml", "nope.toml: cannot be read: No such file"),
        ("--blocks GRAD_V -w 1,2", "--blocks has default weights, and the ingredients have"),
        ("--blocks GRAD_V --sweep 0:1:0.5", "the output has no {t}"),
        ("--sweep 0:1", "'0:1' is not START:STOP:STEP (such as 0:1:0.1)"),
    ],
)
def test_impossible_blocks_are_refused_in_one_line(soupctl, folder, arguments, message):
    done = soupctl("avg", "a.st", "b.st", "-o", "out.st", *arguments.split())

    assert done.code in (2, 3)
    assert message in done.message
    assert not (folder / "out.st").exists()


def test_a_sweep_makes_a_soup_for_each_share(soupctl, folder):
    done = soupctl("avg", "a.st", "b.st", "-o", "mix-{t}.st", "--sweep", "0:1:0.5", "--json")

    assert ["0", "1/2", "1"] == [each["share"] for each in done.json["outputs"]]
    assert {"mix-0.st", "mix-0.5.st", "mix-1.st"} == {path.name for path in folder.glob("mix*")}
