"""Limits of the system, libraries that cannot be loaded, and sizes that strain the command."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest


def test_a_limit_on_file_sizes_is_an_error_of_one_line(soupctl, ingredients, holds):
    before = holds()

    done = soupctl("avg", *ingredients, "-o", "c.st", limits={"RLIMIT_FSIZE": 500})

    assert (6, b"") == (done.code, done.out)
    assert done.message.startswith("soupctl: c.st: needs ")
    assert done.message.endswith(" bytes, more than a file may have here (see ulimit -f)\n")
    assert before == holds()


@pytest.mark.parametrize(
    ("library", "command"), [("llvmlite", "avg"), ("numpy", "delta"), ("blake3", "avg")]
)
def test_a_library_that_cannot_be_loaded_is_an_error_of_one_line(
    process, ingredients, library, command
):
    Path("broken").mkdir()
    Path(f"broken/{library}.py").write_text("raise ImportError('much advice\\n\\nand a reason')")

    running = process(command, *ingredients, "-o", "c.st", environment={"PYTHONPATH": "broken"})
    out, err = running.communicate()

    expected = b"soupctl: a library cannot be loaded: and a reason\n"
    assert (7, b"", expected) == (running.returncode, out, err)
    assert ["a.st", "b.st", "broken"] == sorted(path.name for path in Path().iterdir())


def test_an_average_waits_for_no_numpy(process, ingredients):
    # the compiler needs numpy, and leaves kernels to be loaded
    process("avg", *ingredients, "-o", "first.st").communicate()
    Path("broken").mkdir()
    Path("broken/numpy.py").write_text("raise ImportError('asked for')")
    places = os.pathsep.join(filter(None, ["broken", os.environ.get("PYTHONPATH")]))

    running = process("avg", *ingredients, "-o", "c.st", environment={"PYTHONPATH": places})
    _, err = running.communicate()

    assert 0 == running.returncode, err
    assert Path("first.st").read_bytes() == Path("c.st").read_bytes()


@pytest.mark.parametrize("traced", [False, True])
def test_an_unexpected_error_is_one_line_and_its_traceback_is_shown_on_request(
    process, ingredients, traced
):
    Path("broken").mkdir()
    Path("broken/blake3.py").write_text("raise ValueError('no such\\nthing')")
    environment = {"PYTHONPATH": "broken", **({"SOUPCTL_TRACEBACK": "1"} if traced else {})}

    running = process("avg", *ingredients, "-o", "c.st", environment=environment)
    out, err = running.communicate()

    assert (70, b"") == (running.returncode, out)
    assert b"soupctl: internal error: ValueError: no such\\nthing" == err.splitlines()[-1]
    assert err.startswith(b"Traceback") == traced
    assert traced == (len(err.splitlines()) > 1)
    assert ["a.st", "b.st", "broken"] == sorted(path.name for path in Path().iterdir())


def test_600_ingredients_are_few_descriptors(soupctl, save):
    names = [f"{number}.st" for number in range(600)]
    for number, name in enumerate(names):
        save(name, {"w": np.full(8, number, np.float32), "v": np.zeros(2, np.float16)})

    done = soupctl("avg", *names, "-o", "c.st", limits={"RLIMIT_NOFILE": 64})

    assert (0, b"") == (done.code, done.err)
    assert struct.pack("<8f", *[299.5] * 8) == Path("c.st").read_bytes()[-36:-4]


def test_20_000_tensors_take_seconds(soupctl, hollow):
    hollow("a.st", {f"blocks.{number}.weight": ("F16", [4]) for number in range(20_000)})

    done = soupctl("avg", "a.st", "a.st", "-o", "c.st")

    assert (0, b"") == (done.code, done.err)
    assert 20_000 == len(soupctl("inspect", "c.st", "--json").json["checkpoints"][0]["tensors"])


@pytest.mark.slow
def test_more_than_2_to_the_31_elements_are_all_averaged(soupctl, hollow):
    size = 2**31 + 5
    if shutil.disk_usage(".").free < 2 * size:
        pytest.skip(f"it takes {2 * size} bytes of disk")
    for name, last in (("a.st", 0x30), ("b.st", 0x38)):
        hollow(name, {"w": ("F8_E4M3", [size])})
        with Path(name).open("r+b") as file:
            file.seek(-5, os.SEEK_END)
            file.write(bytes([last] * 5))

    done = soupctl("avg", "a.st", "b.st", "-o", "c.st")

    assert (0, b"") == (done.code, done.err)
    with Path("c.st").open("rb") as file:
        file.seek(-6, os.SEEK_END)
        # the mean of 0.5 and 1.0 after a zero
        assert bytes([0, *[0x34] * 5]) == file.read()
