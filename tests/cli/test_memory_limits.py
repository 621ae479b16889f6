"""Limits on memory: plans keep to them, and a limit of the system is an error of one line."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("MemoryError", "out of memory (--max-memory or --threads 1 needs less)"),
        (
            "type('OutOfMemoryError', (RuntimeError,), {})('CUDA out of memory. Much advice')",
            "out of memory: CUDA out of memory",
        ),
        (
            "RuntimeError('[at x.cpp:1] DefaultCPUAllocator: can\\'t allocate memory: all. 12')",
            "out of memory: all",
        ),
    ],
)
def test_memory_that_is_not_there_is_a_limit(process, ingredients, raised, said):
    Path("broken").mkdir()
    Path("broken/blake3.py").write_text(f"raise {raised}")

    running = process("avg", *ingredients, "-o", "c.st", environment={"PYTHONPATH": "broken"})
    out, err = running.communicate()

    assert (7, b"", f"soupctl: {said}\n".encode()) == (running.returncode, out, err)


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells no anonymous memory")
@pytest.mark.parametrize(("count", "elements"), [(1, 100_000), (20_000, 4), (100_000, 4)])
def test_the_estimate_of_memory_is_upper_and_close(process, soupctl, hollow, count, elements):
    hollow("a.st", {f"blocks.{number}.weight": ("F16", [elements]) for number in range(count)})
    arguments = ["avg", "a.st", "a.st", "-o", "-", "-j", "2"]
    # compiled code is there before the measurement
    plan = soupctl(*arguments, "-n", "--json").json
    process(*arguments, stdout=subprocess.DEVNULL).communicate()

    running = process(*arguments)
    # all is computed when the first byte comes, and the pipe is too small for the rest
    os.read(running.stdout.fileno(), 1)
    status = Path(f"/proc/{running.pid}/status").read_text()
    running.communicate()

    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    used = int(line.split()[1]) * 1024
    assert 0 == running.returncode
    assert used <= plan["memory"] <= 1.75 * used


def most_memory(running: subprocess.Popen) -> int:
    """The most anonymous memory, in bytes, that a process had at any moment until it ended."""
    most = 0
    while running.poll() is None:
        status = Path(f"/proc/{running.pid}/status").read_text()
        held = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")]
        most = max([most, *held])
        time.sleep(0.005)
    assert 0 == running.returncode
    return most * 1024


MANY = 5_000
INGREDIENTS = 200
SOUPS = {"kept.st": ("--keep-sum",), "soup.st": ()}
"""Soups of a.st and b.st that some commands change, and how they are made."""


def save_inputs(hollow, folder: Path, count: int) -> None:
    """Ingredients of so many small tensors, many ingredients of one larger, and an adapter."""
    shapes = {f"model.layers.{number}.weight": ("F16", [4]) for number in range(count)}
    single = {"w": ("F32", [40_000])}
    files = {"a": shapes, "b": shapes, "c": shapes}
    files |= {f"many-{number}": single for number in range(INGREDIENTS)}
    files["base"] = {"m.weight": ("F16", [800, 800])}
    files["lora"] = {
        "m.lora_up.weight": ("F32", [800, 400]),
        "m.lora_down.weight": ("F32", [400, 800]),
    }
    for number, (name, tensors) in enumerate(files.items()):
        hollow(folder / f"{name}.st", tensors)
        with (folder / f"{name}.st").open("r+b") as file:
            file.seek(-2, os.SEEK_END)
            file.write(struct.pack("<H", number))
    # every tensor differs from those of the others
    data = count * 4 * struct.pack("<H", 0x3C00)
    (folder / "fine.st").write_bytes((folder / "a.st").read_bytes()[: -len(data)] + data)


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells no anonymous memory")
@pytest.mark.parametrize(
    "arguments",
    [
        ["avg", "a.st", "b.st", "-o", "x.st", "--keep-sum"],
        ["add", "kept.st", "c.st", "-o", "x.st"],
        ["subtract", "soup.st", "--each", "-o", "x-{name}"],
        ["avg", *[f"many-{number}.st" for number in range(INGREDIENTS)], "-o", "x.st"],
        ["apply", "base.st", "lora.st", "-o", "x.st"],
        ["delta", "fine.st", "b.st", "-o", "x.st"],
    ],
    ids=[
        "kept sum",
        "added to a sum",
        "each left out",
        "many ingredients",
        "an adapter",
        "a delta",
    ],
)
def test_no_more_memory_is_taken_than_planned_and_allowed(
    process, soupctl, hollow, folder, arguments
):
    (folder / "few").mkdir()
    for place, count in ((folder / "few", 40), (folder, MANY)):
        soupctl.folder = place
        save_inputs(hollow, place, count)
        for soup, more in SOUPS.items():
            if soup in arguments:
                soupctl("avg", "a.st", "b.st", "-o", soup, *more)
        if count < MANY:
            # compiled code is there before the measurement
            assert 0 == soupctl(*arguments).code
    planned = soupctl(*arguments, "-n", "--json", "-j1").json["memory"]

    taken = most_memory(process(*arguments, "-f", "--max-memory", str(planned)))
    refused = soupctl(*arguments, "--max-memory", "32M", "-f")

    assert 0 < taken <= planned
    assert 7 == refused.code
    assert f"{32 * MEGABYTE} bytes of memory are not enough (one thread needs " in refused.message


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
@pytest.mark.parametrize("megabytes", [24, 250, 400, 490])
def test_a_limit_on_address_space_is_kept_or_is_an_error_of_one_line(
    process, hollow, soupctl, megabytes
):
    # larger than the limits, and read in parts
    hollow("a.st", {f"w{number}": ("F16", [4_000_000]) for number in range(65)})
    arguments = ["hash", "a.st"] if megabytes == 250 else ["avg", "a.st", "a.st", "-o", "c.st"]
    most = megabytes * MEGABYTE

    ended = [
        process(
            *arguments,
            *more,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
        )
        for more in ((), ("-n",))[: 2 if arguments[0] == "avg" else 1]
    ]
    said = [running.communicate()[1].decode() for running in ended]

    expected = 7 if arguments[0] == "avg" and megabytes < 480 else 0
    assert [expected] * len(ended) == [running.returncode for running in ended], said
    assert all(len(each.splitlines()) == (expected != 0) for each in said)
    assert Path("c.st").exists() == (arguments[0] == "avg" and expected == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
@pytest.mark.parametrize("megabytes", [20, 40, 90, 119])
def test_a_limit_on_data_is_an_error_of_one_line(process, ingredients, megabytes):
    most = megabytes * MEGABYTE
    running = process(
        *("avg", *ingredients, "-o", "c.st"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
    )
    out, err = running.communicate()

    said = f"the limit on memory for data is {most} bytes, and at least {120 * MEGABYTE} are needed"
    expected = [f"soupctl: {said} (see ulimit -d)\n".encode()]
    if megabytes == 20:
        # hardly more than the modules of the command line take before the limit is looked at
        expected.append(b"soupctl: out of memory (--max-memory or --threads 1 needs less)\n")
    assert (7, b"") == (running.returncode, out)
    assert err in expected
    assert not Path("c.st").exists()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        ("OSError(12, 'Cannot allocate memory')", "out of memory (--max-memory or --threads 1"),
        ("SyntaxError('expected :')", "out of memory (--max-memory or --threads 1"),
        ("OSError('x.so: cannot map')", "a library cannot be loaded: x.so: cannot map"),
    ],
)
def test_a_library_without_memory_is_a_limit(process, ingredients, raised, expected):
    Path("broken").mkdir()
    Path("broken/blake3.py").write_text(f"raise {raised}")

    running = process("avg", *ingredients, "-o", "c.st", environment={"PYTHONPATH": "broken"})
    out, err = running.communicate()

    assert (7, b"") == (running.returncode, out)
    assert err.startswith(f"soupctl: {expected}".encode())
    assert 1 == len(err.splitlines())


SD15 = {f"down_blocks.{number}.weight": ("F32", [1280, 1280, 3, 3]) for number in range(58)}
SDXL = {f"blocks.{number}.weight": ("F32", [1280, 1280, 3, 3]) for number in range(174)}
CROSS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def test_unlike_models_are_refused_from_their_headers_and_nothing_is_allocated(hollow, process):
    hollow("sd15.st", {**SD15, CROSS: ("F32", [640, 768])})
    hollow(
        "sdxl.st",
        {**SDXL, CROSS: ("F32", [640, 2048]), "add_embedding.linear_1.weight": ("F32", [1])},
    )
    assert Path("sd15.st").stat().st_size > 3.4e9
    assert Path("sdxl.st").stat().st_size > 10e9

    # an interpreter and headers, not even numpy
    little = 64 * MEGABYTE
    running = process(
        "avg",
        "sd15.st",
        "sdxl.st",
        "-o",
        "c.st",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (little, little)),
    )
    out, err = running.communicate()

    assert (4, b"") == (running.returncode, out)
    assert err.startswith(b"soupctl: sdxl.st: ")
    assert b"SD 1.x" in err
    assert b"SDXL" in err
    assert not Path("c.st").exists()
