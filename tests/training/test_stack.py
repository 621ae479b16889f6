"""`stack`, and banks as ingredients: what is put together can be taken apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def banks(tiny, bases, soupctl):
    """Banks a, b, c/bank on one base, and d on another."""
    write = pytest.importorskip("tiny_banks").write_bank
    Path("c").mkdir()
    for seed, name in enumerate(("a", "b", "c/bank")):
        write(bases["dit"], name, size=8, seed=seed)
    write(bases["dit"], "d", size=8, digest="blake3:" + 64 * "1")


def files(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_a_bank_that_was_left_out_leaves_no_trace(soupctl, banks):
    all_three = soupctl("stack", "a@0.5", "b@1/3", "c/bank@2", "-o", "three", "--json")
    two = soupctl("stack", "c/bank", "a", "-w", "2,0.5", "-o", "two")
    left = soupctl("stack", "three", "--without", "b", "-o", "left")

    assert (0, 0, 0) == (all_three.code, two.code, left.code), left.err
    assert {"a": "1/2", "b": "1/3", "c": "2"} == json.loads(all_three.out)["banks"]
    assert "two: a with weight 1/2\ntwo: c with weight 2\n" == two.err
    assert files("two") == files("left")
    assert Path("a", WEIGHTS).read_bytes() == Path("two", "a", WEIGHTS).read_bytes()


def test_a_stack_is_drawn_like_a_bank(soupctl, banks, bases):
    assert soupctl("stack", "a@1/2", "-o", "half").code == 0
    assert soupctl("stack", "a@1/4", "b", "-o", "both").code == 0

    done = soupctl(
        *("sample", bases["dit"], "--bank", "half", "--bank", "both", "--images", 1),
        *("--steps", 1, "-o", "out"),
    )

    assert done.code == 0, done.err
    half, both = (np.asarray(Image.open(f"out/dit + {name}/0000.png")) for name in ("half", "both"))
    assert not np.array_equal(half, both)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "what to stack and where to are both needed"),
        (("a", "b", "--without", "a"), 2, "--without is of one stack"),
        (("a", "d"), 4, "on a base with other weights than this one"),
        (("a@0",), 2, "weight"),
        (("nowhere",), 3, "nowhere"),
        (("three", "--without", "x"), 5, "is not in the stack (it holds a, b)"),
        (("a", "three"), 3, "three"),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_one_line(soupctl, banks, words, code, said):
    assert soupctl("stack", "a", "b", "-o", "three").code == 0

    done = soupctl("stack", *words, "-o", "out")

    assert code == done.code, done.err
    assert said in done.err
    assert 1 == done.err.count("\n")
    assert not Path("out").exists()


def test_banks_go_into_soups_and_out_of_them_again(soupctl, banks):
    config = json.loads(Path("b", CONFIG).read_text())
    # as another version would have written it, of a base that lies elsewhere
    Path("b", CONFIG).write_text(
        json.dumps({**config, "base_model_name_or_path": "there", "soupctl_version": "9"})
    )
    made = soupctl("avg", "a", "b", "c/bank", "-o", "soup")
    left = soupctl("subtract", "soup", "c/bank", "-o", "left")
    mean = soupctl("avg", "a", "b", "-o", "mean")

    assert (0, 0, 0) == (made.code, left.code, mean.code), made.err + left.err
    left_tensors, tensors = (load_file(f"{name}/{WEIGHTS}") for name in ("left", "mean"))
    assert all(tensors[name].equal(left_tensors[name]) for name in tensors)
    one, other = (load_file(f"{name}/{WEIGHTS}") for name in ("a", "b"))
    expected = ((one["gate.4.bias"].double() + other["gate.4.bias"].double()) / 2).float()
    assert expected.equal(tensors["gate.4.bias"])


def test_a_soup_of_banks_is_a_bank(soupctl, banks, bases):
    assert soupctl("avg", "a", "b", "-o", "soup").code == 0

    done = soupctl(
        "sample", bases["dit"], "--bank", "soup", "--images", 1, "--steps", 1, "-o", "out.png"
    )

    assert done.code == 0, done.err


def test_banks_of_other_bases_do_not_average(soupctl, banks):
    done = soupctl("avg", "a", "d", "-o", "soup")

    assert 4 == done.code
    assert "base_digest" in done.err


def test_inspect_tells_how_large_a_bank_is_beside_its_base(soupctl, banks, bases):
    alone = soupctl("inspect", "a", "--summary")
    beside = soupctl("inspect", "a", "--base", bases["dit"], "--json", "--summary")
    wrong = soupctl("inspect", bases["dit"], "--base", bases["dit"])

    assert (0, 0, 2) == (alone.code, beside.code, wrong.code), beside.err
    assert "prompt bank for DiTTransformer2DModel of 1000 timesteps" in alone.out
    assert "  parameters  264\n  gate        token on time\n" in alone.out
    assert "  block       transformer_blocks.2  [4, 16]" in alone.out
    found = json.loads(beside.out)["bank"]
    model = pytest.importorskip("diffusers").DiTTransformer2DModel
    base = model.from_pretrained(bases["dit"] / "transformer")
    count = pytest.importorskip("soupctl.banks.sites").base_parameters(base)
    assert (count, 264, 264 / count) == (
        found["base_parameters"],
        found["parameters"],
        found["share"],
    )
