"""Parts of a soup, in any order and division, make the bytes of one that is made at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import save
from processes import started
from safetensors.numpy import load_file
from soup_parts import F16, NAMES, contents_of, join, made_at_once, part, request, save_ingredients

import soupctl.merge.parts.make
from soupctl import verbs
from soupctl.choices import OnMissing
from soupctl.errors import InputError, OutputError
from soupctl.format.dtypes import DType
from soupctl.merge.parts.request_json import decode_request, encode_request
from soupctl.verbs import (
    BlockWeights,
    ClassicBlocks,
    ExecutionOptions,
    Ingredient,
    PartOfPlan,
    Request,
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three checkpoints of ten tensors in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_ingredients()
    return tmp_path


@pytest.mark.parametrize("count", [1, 2, 4, 1000])
def test_parts_in_any_order_make_the_bytes_of_a_soup_made_at_once(place, count, monkeypatch):
    if count > 4:
        # a disk takes milliseconds for each file
        monkeypatch.setattr(os, "fsync", lambda _: None)
    whole = made_at_once(request())
    numbers = [*range(1, count + 1)]
    random.Random(count).shuffle(numbers)
    for number in numbers:
        part(number, count, execution=ExecutionOptions(1))
    (made,) = join()

    assert whole == contents_of(Path("soup.st"))
    assert 10 == made.tensors
    assert "count" in made.ledger.integer_source.tensors
    assert not Path("soup.st.parts").exists()


def test_parts_of_all_options_make_the_same_bytes(place):
    save(Path("d.st"), w0=np.ones((1, 7), F16), more=np.ones(4, F16))
    asked = request(
        "soup.st",
        Ingredient("a.st", Fraction(1, 3)),
        Ingredient("b.st", Fraction(2)),
        "c.st",
        dtype=DType.F32,
        dtype_for=(("w1", DType.BF16),),
        excludes=("w7",),
        take=(("w0", "d.st"), ("w2", "b.st")),
        on_missing=OnMissing.KEEP,
        blocks=BlockWeights((("w3", (Fraction(1), Fraction(0), Fraction(1, 2))),)),
        round_weights=6,
    )
    whole = made_at_once(asked)
    for number in (3, 1, 4, 2):
        part(number, 4, asked)
    join()

    assert whole == contents_of(Path("soup.st"))


@pytest.mark.parametrize("count", [1, 3])
def test_parts_of_a_sharded_folder_make_the_same_files(place, count):
    for name in NAMES:
        save(Path(f"{name}.d", "model.safetensors"), **dict(load_file(name)))
        Path(f"{name}.d", "config.json").write_text("{}")
    asked = request("soup", *(f"{name}.d" for name in NAMES), shard_size=200, config_from="b.st.d")
    whole = made_at_once(asked)
    for number in range(1, count + 1):
        part(number, count, asked)
    join("soup/")

    assert whole == contents_of(Path("soup"))
    assert len(whole) > 4


def test_parts_of_a_pipeline_make_the_same_files(place):
    for seed, name in enumerate("pq"):
        for component in ("unet", "vae"):
            file = Path(name, component, "diffusion_pytorch_model.safetensors")
            save(file, {"format": "pt"}, w=np.full((3, 4), seed, F16), v=np.ones(5, F16))
            Path(name, component, "config.json").write_text("{}")
        Path(name, "model_index.json").write_text(
            json.dumps(
                {
                    "unet": ["diffusers", "UNet2DConditionModel"],
                    "vae": ["diffusers", "AutoencoderKL"],
                }
            )
        )
    asked = request("soup", "p", "q")
    whole = made_at_once(asked)
    for number in (2, 3, 1):
        part(number, 3, asked)
    join("soup")

    assert whole == contents_of(Path("soup"))


def test_inputs_of_equal_content_are_read_once_in_each_part(place):
    os.link("a.st", "again.st")
    shutil.copy("b.st", "copy.st")
    asked = request(
        "soup.st", "a.st", "again.st", "a.st", "b.st", "copy.st", take=(("w1", "a.st"),)
    )
    whole = made_at_once(asked)
    for number in (2, 1, 3):
        part(number, 3, asked)
    join()

    assert whole == contents_of(Path("soup.st"))


def test_a_soup_of_soups_in_parts_knows_their_ingredients(place):
    verbs.average(request("first.st", "a.st", "b.st"))
    asked = request("soup.st", "first.st", "c.st")
    whole = made_at_once(asked)
    for number in (1, 2):
        part(number, 2, asked)
    join()

    assert whole == contents_of(Path("soup.st"))


@pytest.mark.parametrize(
    "more",
    [
        {"blocks": ClassicBlocks(tuple(Fraction(n, 7) for n in range(26)))},
        {"blocks": BlockWeights((("x", (Fraction(1), Fraction(-1, 3))),), (Fraction(1), 2))},
        {"dtype": DType.BF16, "keys": ("a*",), "pad": ("in.*",), "normalize": False},
        {"component": "unet", "variant": "fp16", "shard_size": 7, "ignore_ledger": True},
        {"config_from": "/b.st", "allow_nonfinite": True, "round_weights": 3},
    ],
    ids="-".join,
)
def test_a_request_is_the_same_after_it_was_written_into_a_part(more):
    asked = Request([Ingredient("/a.st", Fraction(1, 3)), Ingredient("/b.st")], "/soup.st", **more)
    written = json.loads(json.dumps(encode_request(asked)))

    assert asked == decode_request(written)


def test_a_part_takes_no_more_than_its_share_and_one_tensor(place):
    sizes = []
    for number in range(1, 4):
        with verbs.open_part(request(), PartOfPlan(number, 3)) as planned:
            sizes.append(planned.read + planned.written)
            (component,) = planned.job.components
    largest = 4 * 8 * 7 * 2

    assert component.read + component.written == sum(sizes)
    assert max(sizes) <= sum(sizes) / 3 + largest


def test_parts_are_joined_from_another_folder(place, monkeypatch):
    whole = made_at_once(request())
    for number in (1, 2):
        part(number, 2)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    join("../soup.st")
    monkeypatch.chdir(place)

    assert whole == contents_of(Path("soup.st"))


def test_a_part_that_fails_leaves_no_file_and_is_made_again(place, monkeypatch):
    whole = made_at_once(request())
    part(1, 2)

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(soupctl.merge.parts.make, "write_at", failing)
        with pytest.raises(OutputError, match="No space left"):
            part(2, 2)
    assert ["1-of-2.safetensors"] == os.listdir("soup.st.parts")
    with pytest.raises(InputError, match=r"lacks part 2 of 2 \(make it .*part=2/2\)"):
        join()
    part(2, 2)
    part(1, 2)
    join()

    assert whole == contents_of(Path("soup.st"))


def test_a_hidden_file_of_a_killed_part_is_no_part_and_is_removed(place):
    part(1, 1)
    Path("soup.st.parts/.0123456789abcdef.partial").write_bytes(b"half")
    join()

    assert not Path("soup.st.parts").exists()


def test_a_killed_part_leaves_nothing_to_join(place):
    """A process that is killed between its first tensor and its record."""
    script = (
        "import os, sys\n"
        "from soupctl import choices, verbs\n"
        "import soupctl.merge.parts.make as make\n"
        "make.execute_part = lambda *_: os.kill(os.getpid(), 9)\n"
        "request = verbs.Request(sys.argv[1:], 'soup.st', on_int=choices.OnInt.FIRST)\n"
        "with verbs.open_part(request, verbs.PartOfPlan(2, 2)) as planned:\n"
        "    verbs.make_part(planned)\n"
    )
    whole = made_at_once(request())
    part(1, 2)
    done = subprocess.run([sys.executable, "-c", script, *NAMES], check=False)
    assert -9 == done.returncode
    with pytest.raises(InputError, match="lacks part 2 of 2"):
        join()
    part(2, 2)
    join()

    assert whole == contents_of(Path("soup.st"))


def test_processes_at_the_same_time_make_the_same_bytes(place):
    """Four processes, two of which make the same part."""
    whole = made_at_once(request())
    command = [sys.executable, "-m", "soupctl", "avg", *NAMES, "-o", "soup.st"]
    with ExitStack() as stack:
        running = [
            stack.enter_context(started(*command, "--on-int", "first", "--part", f"{number}/3"))
            for number in (3, 1, 2, 1)
        ]
        assert [0, 0, 0, 0] == [each.wait() for each in running]
    join()

    assert whole == contents_of(Path("soup.st"))
