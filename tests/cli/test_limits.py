"""Limits of the system, several writers at once, permissions, and sizes that strain the command."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

MEGABYTE = 1 << 20


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


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027])
def test_permission_bits_follow_the_umask(soupctl, ingredients, umask):
    soupctl("avg", *ingredients, "-o", "c.st", umask=umask)
    soupctl("avg", *ingredients, "-o", "c", "--shard-size", "1k", umask=umask)

    assert 0o666 & ~umask == mode("c.st")
    assert 0o777 & ~umask == mode("c")
    assert {0o666 & ~umask} == {mode(path) for path in Path("c").iterdir()}


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o664, 0o444])
def test_the_mode_of_an_output_that_is_replaced_is_kept(soupctl, ingredients, bits):
    Path("c.st").write_bytes(b"old")
    Path("c.st").chmod(bits)

    assert 0 == soupctl("avg", *ingredients, "-o", "c.st", "-f").code
    assert bits == mode("c.st")


@pytest.mark.parametrize("more", [(), ("--shard-size", "1k")], ids=["file", "folder"])
def test_of_writers_at_once_one_wins_and_the_others_say_so(soupctl, ingredients, holds, more):
    before = holds()

    running = [
        soupctl.start("avg", "a.st", f"b.st@{number}", "-o", "c", *more, "-j1")
        for number in range(1, 5)
    ]
    ended = [each.wait() for each in running]

    assert [0, 6, 6, 6] == sorted(done.code for done in ended)
    for done in ended:
        assert done.message in (
            "",
            "soupctl: c: exists (-f replaces it)\n",
            "soupctl: c: was created by another process meanwhile (-f replaces it)\n",
        )
    assert before == {name: data for name, data in holds().items() if name.split("/")[0] != "c"}
    assert 0 == soupctl("hash", "c").code


@pytest.mark.parametrize("more", [(), ("--shard-size", "1k")], ids=["file", "folder"])
def test_of_writers_at_once_with_force_the_last_wins_whole(soupctl, ingredients, holds, more):
    expected = []
    for number in range(1, 5):
        soupctl("avg", "a.st", f"b.st@{number}", "-o", "c", "-f", *more)
        expected.append(holds())

    running = [
        soupctl.start("avg", "a.st", f"b.st@{number}", "-o", "c", "-f", *more, "-j1")
        for number in range(1, 5)
    ]
    ended = [each.wait() for each in running]

    assert [(0, b"")] * 4 == [(done.code, done.err) for done in ended]
    assert holds() in expected


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
