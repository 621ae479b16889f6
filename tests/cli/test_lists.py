"""Lists of digests: what `hash` prints, `hash --check` finds again."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

ODD_NAMES = [
    b"new\nline.st",
    b"return\r.st",
    b"back\\slash.st",
    b"literal\\n.st",
    b"literal\\x41.st",
    b"\\begins.st",
    b"\xff\xfe.st",
    b"cut\xe2\x82.st",
    b"\x1b[31mred.st",
    b"  two  spaces  ",
    "caf\u00e9\u6c64\u200b.st".encode(),
    b"-",
]


@pytest.fixture
def odd_names(ingredients) -> list[str]:
    """Files of such names, each of another content."""
    names = [f"./{os.fsdecode(name)}" for name in ODD_NAMES]
    raw = Path("a.st").read_bytes()
    for number, name in enumerate(names):
        Path(name).write_bytes(raw[:-1] + bytes([number]))
    return names


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("more", [[], ["--sha256"]], ids=["content", "sha256"])
def test_a_list_of_digests_may_hold_any_name(process, soupctl, odd_names, encoding, more):
    environment = {"PYTHONIOENCODING": encoding}
    listing = process("hash", *more, *odd_names, environment=environment)
    listed, err = listing.communicate()
    Path("list").write_bytes(listed)
    checked = soupctl("hash", "--check", "list", "--json")

    assert (0, b"") == (listing.returncode, err)
    assert len(odd_names) == len(listed.splitlines())
    assert b"\x1b" not in listed
    assert (0, b"") == (checked.code, checked.err)
    found = [os.path.normpath(each["path"]) for each in checked.json["checked"]]
    assert [os.path.normpath(name) for name in odd_names] == found


def test_a_list_whose_names_end_with_nul_names_the_option_that_reads_it(soupctl, ingredients):
    Path("list").write_bytes(b"a.st\0b.st\0")
    refused = soupctl("avg", "--files-from", "list", "-o", "out.st")
    made = soupctl("avg", "--files-from", "list", "-0", "-o", "out.st")

    message = "soupctl: list: holds null characters, which no file name has"
    assert (3, f"{message} (-0 reads names that end with them)\n") == (
        refused.code,
        refused.err.decode(),
    )
    assert (0, b"") == (made.code, made.err)


def test_names_are_escaped_as_in_the_lists_of_gnu(soupctl, ingredients):
    names = ["new\nline", "back\\slash", "return\r", "plain"]
    for name in names:
        Path(name).write_bytes(Path("a.st").read_bytes())

    ours = soupctl("hash", "--sha256", *names).out
    theirs = subprocess.run(["sha256sum", *names], capture_output=True, check=True).stdout

    assert theirs == ours.replace(b"sha256:", b"")


@pytest.mark.parametrize("name", [r"\x4", r"a\q", "a\\", r"\xZZ", ""])
def test_an_escape_that_is_none_is_refused(soupctl, ingredients, name):
    listed = rf"\sha256:{'0' * 64}  {name}".encode()

    done = soupctl("hash", "--check", "-", stdin=listed)

    expected = "soupctl: -: line 1 is not a digest and a path\n"
    assert (3, b"", expected) == (done.code, done.out, done.message)


def test_sha256_of_a_stream_is_that_of_its_bytes(soupctl, ingredients):
    raw = Path("a.st").read_bytes() * 20_000

    done = soupctl("hash", "--sha256", "-", stdin=raw)

    digest = hashlib.sha256(raw).hexdigest()
    assert (0, f"sha256:{digest}  standard input\n", "") == (done.code, done.text, done.message)


def test_a_list_comes_through_a_pipe_that_is_written_late(soupctl, process, ingredients):
    read, write = os.pipe()
    listed = soupctl("hash", *ingredients).out

    def feed() -> None:
        for number in range(0, len(listed), 40):
            os.write(write, listed[number : number + 40])
        os.close(write)

    checking = process("hash", "--check", f"/dev/fd/{read}", pass_fds=[read])
    os.close(read)
    later = threading.Timer(0.2, feed)
    later.start()
    out, _ = checking.communicate()
    later.join()

    assert (0, b"a.st: OK\nb.st: OK\n") == (checking.returncode, out)


@pytest.fixture
def pipeline(save) -> str:
    """A pipeline of two components, one of them with a variant."""
    for folder in ("pipe/unet", "pipe/vae"):
        Path(folder).mkdir(parents=True)
    Path("pipe/model_index.json").write_text('{"unet": ["a", "b"], "vae": ["a", "b"]}')
    stem = "diffusion_pytorch_model"
    save(f"pipe/unet/{stem}.safetensors", {"w": np.zeros(2, np.float32)})
    save(f"pipe/unet/{stem}.fp16.safetensors", {"w": np.zeros(2, np.float16)})
    save(f"pipe/vae/{stem}.safetensors", {"w": np.ones(2, np.float32)})
    return "pipe"


def test_a_component_and_a_variant_are_hashed_and_checked(soupctl, pipeline):
    both = soupctl("hash", pipeline).text.splitlines()
    unet = soupctl("hash", pipeline, "--component", "unet").text.splitlines()
    file = soupctl("hash", "pipe/unet/diffusion_pytorch_model.fp16.safetensors").text
    variant = soupctl("hash", pipeline, "--component", "unet", "--variant", "fp16").text
    plain = soupctl("hash", "--check", "-", "-q", stdin=variant.encode())
    same = soupctl("hash", "--check", "-", "-q", "--variant", "fp16", stdin=variant.encode())

    assert ["pipe/unet", "pipe/vae"] == [line.split("  ")[1] for line in both]
    assert both[:1] == unet
    assert file.split()[0] == variant.split()[0]
    assert [1, 0] == [plain.code, same.code]


def test_files_left_behind_are_counted(soupctl, pipeline):
    one = soupctl("avg", pipeline, "-o", "one")
    for number in range(4):
        Path(f"pipe/{number}.bin").touch()
    five = soupctl("avg", pipeline, "-o", "five")

    left = "unet/diffusion_pytorch_model.fp16.safetensors"
    assert f"soupctl: left behind 1 file: {left}\n" == one.message
    expected = "soupctl: left behind 5 files: 0.bin, 1.bin, 2.bin and 2 more (all with -n)\n"
    assert expected == five.message


def test_with_v_the_list_is_the_same_and_the_time_is_on_stderr(soupctl, ingredients):
    done = soupctl("hash", "a.st", "-v")

    assert (0, soupctl("hash", "a.st").out) == (done.code, done.out)
    assert re.fullmatch(r"a\.st: hashed in \d+\.\d s\n", done.message)
