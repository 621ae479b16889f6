"""`stack`, and banks as ingredients: what is put together can be taken apart."""

from __future__ import annotations

import json
import shutil
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


def test_a_stack_grows_and_its_banks_can_be_removed_again(soupctl, banks):
    assert soupctl("stack", "a@1/3", "b@2", "-o", "two").code == 0
    before = files("two")
    more = soupctl("stack", "two", "c/bank@-0.5", "-o", "three", "--json")
    at_once = soupctl("stack", "a@1/3", "b@2", "c@-0.5", "-o", "once")
    less = soupctl("stack", "three", "--without", "c", "-o", "again")

    assert (0, 0, 0) == (more.code, at_once.code, less.code), more.err + less.err
    assert {"a": "1/3", "b": "2", "c": "-1/2"} == json.loads(more.out)["banks"]
    assert before == files("two") == files("again")
    assert files("once") == files("three")
    for name in before:
        assert (name == "stack_config.json") != (before[name] == files("three")[name])


def test_a_stack_is_changed_in_its_place_if_that_is_asked(soupctl, banks):
    assert soupctl("stack", "a", "b", "-o", "stack").code == 0
    before = files("stack")

    kept = soupctl("stack", "stack", "c/bank", "-o", "stack")
    assert (6, before) == (kept.code, files("stack"))
    grown = soupctl("stack", "stack", "c/bank", "-o", "stack", "-f")
    assert (0, {"a", "b", "c"}) == (grown.code, {path.name for path in Path("stack").glob("*/")})
    shrunk = soupctl("stack", "stack", "--without", "c", "-o", "stack", "-f")
    assert (0, before) == (shrunk.code, files("stack"))


def test_a_stack_in_a_stack_is_taken_apart_and_its_weight_multiplies(soupctl, banks):
    assert soupctl("stack", "a@1/3", "b@2", "-o", "two").code == 0
    done = soupctl("stack", "two", "c/bank", "-w", "1/2,3", "-o", "all", "--json")
    assert soupctl("stack", "a@1/6", "b", "c/bank@3", "-o", "plain").code == 0

    assert (0, {"a": "1/6", "b": "1", "c": "3"}) == (done.code, json.loads(done.out)["banks"])
    assert files("plain") == files("all")


def test_a_bank_that_is_called_like_one_of_the_stack_gets_a_longer_name(soupctl, banks):
    shutil.copytree("b", "new/a")
    assert soupctl("stack", "a", "-o", "one").code == 0

    done = soupctl("stack", "one", "new/a", "-o", "two", "--json")

    assert (0, {"a": "1", "new-a": "1"}) == (done.code, json.loads(done.out)["banks"]), done.err
    assert Path("a", WEIGHTS).read_bytes() == Path("two/a", WEIGHTS).read_bytes()
    assert Path("b", WEIGHTS).read_bytes() == Path("two/new-a", WEIGHTS).read_bytes()


def test_a_stack_that_was_tampered_with_does_not_grow(soupctl, banks):
    assert soupctl("stack", "a", "-o", "one").code == 0
    shutil.copy(Path("b", WEIGHTS), Path("one/a", WEIGHTS))

    done = soupctl("stack", "one", "c/bank", "-o", "two")

    assert (5, "soupctl: one/a: was changed after it was stacked\n") == (done.code, done.err)


def test_weights_are_as_long_as_a_stack_can_say(soupctl, banks):
    assert soupctl("stack", f"a@1/{7**33}", "-o", "0").code == 0
    ends = [soupctl("stack", f"{number}@1/{7**33}", "-o", str(number + 1)) for number in range(3)]

    assert [0, 0, 2] == [each.code for each in ends]
    assert "soupctl: a: has a weight with too many digits\n" == ends[2].err


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
        ((), 2, "BANK and -o are required"),
        (("a", "b", "--without", "a"), 2, "--without takes one stack"),
        (("a", "d"), 4, "on a base with different weights"),
        (("a@0",), 2, "weight"),
        (("nowhere",), 3, "nowhere"),
        (("three", "--without", "x"), 5, "is not in the stack (it holds a, b)"),
        (("a", "three"), 5, "a: is already in three as a (--without a removes it)"),
        (("three", "other"), 2, "other/b: and three/b would both be named b in the stack"),
        (("x/y", "x-y", "z/y"), 2, "x-y: and x/y would both be named x-y in the stack"),
        (("three", "three@-1"), 2, "weight of zero"),
        (("three@1e999",), 2, "is not a weight"),
        (("three", "d"), 4, "on a base with different weights"),
    ],
)
def test_banks_that_cannot_be_stacked_are_refused_in_one_line(soupctl, banks, words, code, said):
    assert soupctl("stack", "a", "b", "-o", "three").code == 0
    assert soupctl("stack", "b", "c/bank", "-o", "other").code == 0
    for folder in ("x/y", "x-y", "z/y"):
        shutil.copytree("a", folder)

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


def test_inspect_lists_the_banks_of_a_stack(soupctl, banks):
    assert soupctl("stack", "a@1/3", "c/bank", "-o", "two").code == 0

    lines = soupctl("inspect", "two", "--summary").out.splitlines()
    found = json.loads(soupctl("inspect", "two", "--json").out)

    names = [line for line in lines if "with weight" in line]
    assert ["a, with weight 1/3", "c, with weight 1"] == names
    assert ["two/a", "two/c"] == [each["path"] for each in found["checkpoints"]]
    assert {"a": "1/3", "c": "1"} == {name: each["weight"] for name, each in found["stack"].items()}


@pytest.mark.parametrize("words", [("inspect",), ("stack", "-o", "out"), ("sample", "--bank")])
def test_a_name_that_no_folder_can_have_is_refused(soupctl, bases, words):
    more = (bases["dit"], "-o", "out.png") if words[0] == "sample" else ()

    done = soupctl(*words, "x" * 300, *more)

    assert (3, 1) == (done.code, done.err.count("\n")), done.err
    assert "File name too long" in done.err


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
    count = pytest.importorskip("soupctl.banks.blocks").base_parameters(base)
    assert (count, 264, 264 / count) == (
        found["base_parameters"],
        found["parameters"],
        found["share"],
    )
