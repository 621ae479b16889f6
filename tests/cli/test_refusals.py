"""Bad input: one clear line, the documented exit code, nothing written, inputs untouched."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

USAGE, INPUT, MISMATCH, LEDGER, OUTPUT, LIMIT = 2, 3, 4, 5, 6, 7


@pytest.fixture
def refused(soupctl, holds, golden):
    """Runs commands that are refused with `code`, and compares what they say with a golden file."""

    def run(name: str, code: int, *commands: str, stdin: bytes = b"") -> None:
        before = holds()
        lines = []
        for command in commands:
            done = soupctl(*shlex.split(command), stdin=stdin)

            assert (code, b"") == (done.code, done.out), (command, done)
            assert done.message.startswith("soupctl: "), command
            assert done.message.endswith("\n"), command
            assert 1 == len(done.message.splitlines()), command
            assert done.message[:-1].isprintable(), command
            assert before == holds(), command
            lines += [f"$ soupctl {command}", done.message]
        golden(f"refused-{name}", "\n".join(lines))

    return run


def file_of(header: str | bytes, data: bytes = bytes(8)) -> bytes:
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape: str = "[2]", offsets: str = "[0,8]", dtype: str = '"F32"') -> str:
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


def test_usage_errors_are_one_line(refused, ingredients):
    refused(
        "usage",
        USAGE,
        "avg a.st b.st -o ''",
        "avg a.st b.st -o c.st --component unet",
        "inspect a.st --component unet",
        "",
        "-v",
        "mix a.st b.st -o c.st",
        "avg a.st b.st",
        "avg -o c.st",
        "avg a.st b.st --wat -o c.st",
        "avg a.st b.st --outpt c.st",
        "avg a.st b.st -o",
        "avg '' a.st -o c.st",
        "avg @0.7 a.st -o c.st",
        "avg @0.7 a.st -w 1,2 -o c.st",
        "avg a.st --files-from '' -o c.st",
        "avg - - -o c.st",
        "avg --files-from - - -o c.st",
        "avg -0 a.st b.st -o c.st",
        "avg a.st b.st -o - --json",
        "avg a.st b.st -o c.st -j 0",
        "avg a.st b.st -o c.st -j two",
        "avg a.st b.st -o c.st --max-memory lots",
        "avg a.st b.st -o c.st --max-memory 0",
        "avg a.st b.st -o c.st --dtype F17",
        "avg a.st b.st -o c.st --dtype I32",
        "avg a.st b.st -o c.st --on-int last",
        "avg a.st b.st -o c.st --key 'no.such*'",
        "avg a.st b.st -o c.st --exclude '*'",
        "avg a.st b.st -o c.st --shard-size 1G",
        "avg a.st b.st -o new/",
        "inspect",
        "inspect ''",
        "inspect a.st b.st",
        "hash",
        "hash --check list a.st",
        "hash --check list --sha256",
        "hash --check list --component unet",
        "hash --check ''",
        "hash ''",
        "hash - -",
        "hash --sha256 a.st --component unet",
        "hash --sha256 a.st --variant fp16",
        "demo --seed -1",
    )


@pytest.mark.parametrize("option", ["--max-memory", "--shard-size"])
@pytest.mark.parametrize("start", ["9", "1.", "\u0663"])
def test_a_size_of_more_digits_than_any_has_is_none(soupctl, ingredients, option, start):
    done = soupctl("avg", "a.st", "b.st", "-o", "c", option, start + "9" * 5000)

    shown = (start + "9" * 40)[:40]
    expected = f"soupctl: {option} '{shown}...' is not a size (such as 512M or 5GB)\n"
    assert (USAGE, b"", expected) == (done.code, done.out, done.message)


def test_weights_are_refused_that_are_none_or_cannot_be(refused, ingredients):
    refused(
        "weights",
        USAGE,
        "avg a.st@0 b.st -o c.st",
        "avg a.st@0.0 b.st -o c.st",
        "avg a.st@1/0 b.st -o c.st",
        "avg a.st@-1 b.st@0.5 -o c.st",
        "avg a.st@-1 b.st -o c.st",
        "avg a.st@ b.st -o c.st",
        "avg a.st@x b.st -o c.st",
        "avg a.st@nan b.st -o c.st",
        "avg a.st@inf b.st -o c.st",
        "avg a.st@1e3 b.st -o c.st",
        "avg a.st@0x1 b.st -o c.st",
        "avg a.st@1_0 b.st -o c.st",
        "avg 'a.st@ 1' b.st -o c.st",
        "avg a.st@\u0663 b.st -o c.st",
        "avg a.st@0.123456789 b.st -o c.st",
        "avg a.st@100000000 b.st -o c.st",
        "avg a.st@1/16777217 b.st -o c.st",
        f"avg a.st@{'9' * 31} b.st -o c.st",
        "avg a.st@-0.5 a.st@0.5 b.st -o c.st",
        "avg a.st b.st -w 1 -o c.st",
        "avg a.st b.st -w 1,2,3 -o c.st",
        "avg a.st b.st -w 1, -o c.st",
        "avg a.st b.st -w '' -o c.st",
        "avg a.st@2 b.st -w 1,1 -o c.st",
        "avg a.st b.st -w 0,1 -o c.st",
        "avg a.st b.st -w nan,1 -o c.st",
    )


HEADERS = {
    "empty": b"",
    "short": bytes(7),
    "huge-length": struct.pack("<Q", 2**63) + b"{}",
    "beyond-the-file": struct.pack("<Q", 99) + b"{}",
    "truncated": file_of(f'{{"a":{entry()}}}', bytes(7)),
    "too-long": file_of(f'{{"a":{entry()}}}', bytes(9)),
    "not-json": file_of("hello"),
    "not-utf8": file_of(b'{"\xff":0}'),
    "duplicate": file_of(f'{{"a":{entry()},"a":{entry()}}}'),
    "hole": file_of(f'{{"a":{entry("[1]", "[4,8]")}}}'),
    "overlap": file_of(f'{{"a":{entry()},"b":{entry()}}}'),
    "reversed": file_of(f'{{"a":{entry(offsets="[8,0]")}}}'),
    "overflow": file_of(f'{{"a":{entry("[4294967296,4294967296]")}}}'),
    "negative": file_of(f'{{"a":{entry("[-1,-2]")}}}'),
    "true": file_of(f'{{"a":{entry("[true,2]")}}}'),
    "unknown-dtype": file_of(f'{{"a":{entry(dtype="[1]")}}}'),
    "deep": file_of("[" * 100_000),
    "surrogate": file_of(f'{{"\\ud800":{entry()}}}'),
    "long-number": file_of(f'{{"a":{entry("[" + "1" * 5000 + "]")}}}'),
    "metadata": file_of(f'{{"__metadata__":{{"a":1}},"a":{entry()}}}'),
    "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "web-page": b"<!DOCTYPE html><html></html>",
    "gguf": b"GGUF\3\0\0\0" + bytes(8),
}


def test_a_malformed_file_is_refused(refused, ingredients):
    for name, raw in HEADERS.items():
        Path(f"{name}.st").write_bytes(raw)

    refused("headers", INPUT, *(f"avg a.st {name}.st -o c.st" for name in HEADERS))
    refused("headers-look", INPUT, "inspect hole.st", "hash hole.st")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_never_opened_whatever_its_name(refused, ingredients):
    names = [f"p{protocol}.st" for protocol in range(6)]
    for protocol, name in enumerate(names):
        Path(name).write_bytes(pickle.dumps(Bomb(), protocol))
    for suffix in ("safetensors", "ckpt", "pt", "bin"):
        # what PyTorch writes
        with zipfile.ZipFile(f"zip.{suffix}", "w") as archive:
            archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.dumps(Bomb(), 2))
        names.append(f"zip.{suffix}")

    refused("pickle", INPUT, *(f"avg a.st {name} -o c.st" for name in names))
    assert not Path("exploded").exists()


def test_a_folder_of_pickles_is_refused(refused, ingredients):
    Path("model").mkdir()
    Path("model/pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    Path("empty").mkdir()

    refused("pickle-folder", INPUT, "avg model model -o c.st", "avg a.st empty -o c.st")


def test_what_is_no_regular_file_is_refused_without_waiting(refused, ingredients, folder):
    os.mkfifo("fifo.st")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.st")
        Path("loop.st").symlink_to("loop.st")
        Path("link.st").symlink_to("fifo.st")
        Path("dangling.st").symlink_to("none.st")
        names = ["fifo.st", "link.st", "socket.st", "/dev/zero", "/dev/null", "/dev/tty"]
        names += ["loop.st", "dangling.st", "none.st", "a.st/none.st", "n" * 300, "none/none.st"]

        refused("irregular", INPUT, *(f"avg a.st {name} -o c.st" for name in names))
        refused("irregular-hash", INPUT, *(f"hash --sha256 {name}" for name in names))


OUTSIDE = {
    "up": "../a.st",
    "up-inside": "x/../../a.st",
    "absolute": "/etc/passwd",
    "empty": "",
    "self": ".",
    "null": "a\0b",
    "number": 1,
    "list": ["a.st"],
}


def test_a_folder_cannot_name_files_outside_itself(refused, ingredients):
    for name, value in OUTSIDE.items():
        Path(name).mkdir()
        index = {"metadata": {}, "weight_map": {"conv.bias": value}}
        Path(name, "model.safetensors.index.json").write_text(json.dumps(index))

    refused("outside", INPUT, *(f"avg {name} a.st -o c.st" for name in OUTSIDE))


def test_an_index_that_the_files_do_not_bear_out_is_refused(refused, ingredients):
    indexes = {
        "lacking": {"conv.bias": "none.safetensors"},
        "elsewhere": {"conv.bias": "one.safetensors", "other": "one.safetensors"},
        "itself": {"conv.bias": "model.safetensors.index.json"},
    }
    for name, weight_map in indexes.items():
        Path(name).mkdir()
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        Path(name, "model.safetensors.index.json").write_text(text)
        Path(name, "one.safetensors").write_bytes(Path("a.st").read_bytes())

    refused("index", INPUT, *(f"avg {name} a.st -o c.st" for name in indexes))


def test_checkpoints_that_do_not_fit_each_other_are_refused(refused, save):
    plain = {"conv_in.weight": np.zeros((8, 4, 3, 3), np.float32), "bias": np.zeros(4, np.float32)}
    others = {
        "lacks": {"bias": plain["bias"]},
        "has": {**plain, "more": plain["bias"]},
        "named": {**{f"x{name}": array for name, array in plain.items()}},
        "inpainting": {**plain, "conv_in.weight": np.zeros((8, 9, 3, 3), np.float32)},
        "broadcast": {**plain, "bias": np.zeros(1, np.float32)},
        "scalar": {**plain, "bias": np.zeros((), np.float32)},
        "flat": {**plain, "conv_in.weight": np.zeros(8 * 4 * 9, np.float32)},
        "integer": {**plain, "bias": np.zeros(4, np.int32)},
    }
    save("plain.st", plain)
    for name, tensors in others.items():
        save(f"{name}.st", tensors)
    many = {f"t{number}": np.zeros(number + 1, np.float16) for number in range(9)}
    save("many.st", many)
    save("more.st", {name: np.zeros(20, np.float16) for name in many})

    refused(
        "mismatch",
        MISMATCH,
        *(f"avg plain.st {name}.st -o c.st" for name in others),
        "avg many.st more.st -o c.st",
        "avg many.st more.st -o c.st -v",
        "avg many.st more.st -fvo c.st",
        "avg many.st more.st -o c.st --json",
    )


def test_lora_factors_are_refused_with_a_hint(refused, save):
    down, up = np.zeros((4, 8), np.float16), np.zeros((8, 4), np.float16)
    names = {
        "peft": ("base.q.lora_A.weight", "base.q.lora_B.weight"),
        "diffusers": ("unet.q.lora.down.weight", "unet.q.lora.up.weight"),
        "kohya": ("lora_unet_q.lora_down.weight", "lora_unet_q.lora_up.weight"),
    }
    for name, (first, second) in names.items():
        save(f"{name}.st", {first: down, second: up})

    refused("lora", MISMATCH, *(f"avg {name}.st {name}.st -o c.st" for name in names))


def test_integers_that_differ_are_refused(refused, save):
    for name, steps, mask in (("a.st", 1, True), ("b.st", 2, True), ("c.st", 1, False)):
        arrays = {"steps": np.array([steps]), "mask": np.array([mask]), "w": np.zeros(2, "f4")}
        save(name, arrays)

    refused("integers", MISMATCH, "avg a.st b.st -o d.st", "avg a.st c.st b.st -o d.st")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_are_refused(refused, save, dtype):
    good = np.zeros(70_000, dtype)
    save("good.st", {"a": good, "w": good})
    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus", -np.inf)):
        bad = good.copy()
        bad[66_000] = value
        save(f"{name}.st", {"a": good, "w": bad})

    width = np.dtype(dtype).itemsize * 8
    commands = [f"avg good.st {name}.st -o c.st" for name in ("nan", "inf", "minus")]
    refused(f"nonfinite-f{width}", INPUT, *commands, "avg nan.st good.st -o - -j 1")


def test_a_mean_beyond_the_dtype_is_refused(refused, save):
    save("a.st", {"w": np.array([1e30, 0], np.float32)})

    refused("range", MISMATCH, "avg a.st a.st -o c.st --dtype F16", "avg a.st -o - --dtype F8_E4M3")


def test_a_link_to_nowhere_is_refused_as_an_output(soupctl, ingredients):
    Path("dangling").symlink_to("none/c.st")

    done = soupctl("avg", "a.st", "b.st", "-o", "dangling")

    assert 6 == done.code
    assert done.message.startswith("soupctl: dangling: the folder ")
    assert done.message.endswith("/none does not exist, and is not created\n")


def test_an_output_that_may_not_be_is_refused(refused, ingredients):
    Path("old.st").write_bytes(b"old")
    Path("link.st").symlink_to("a.st")
    os.link("b.st", "hard.st")
    Path("taken").mkdir()
    Path("taken/precious").write_bytes(b"precious")
    Path("to-folder").symlink_to("taken")
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")

    refused(
        "output",
        OUTPUT,
        "avg a.st b.st -o old.st",
        "avg a.st b.st -o none/c.st",
        "avg a.st b.st -o a.st/c.st",
        "avg a.st b.st -o a.st -f",
        "avg a.st b.st -o a.st",
        "avg a.st b.st -o ./b.st -f",
        "avg a.st b.st -o link.st -f",
        "avg a.st b.st -o hard.st -f",
        "avg a.st b.st -o taken",
        "avg a.st b.st -o taken -f",
        "avg a.st b.st -o to-folder -f",
        "avg a.st b.st -o taken/ --shard-size 1k -f",
        "avg a.st b.st -o taken --shard-size 1k -f",
        "avg a.st b.st -o old.st/ --shard-size 1k -f",
        "avg a.st b.st -o .",
        "avg a.st b.st -o ..",
        "avg a.st b.st -o / --shard-size 1k",
        "avg a.st b.st -o fifo -f",
        "avg a.st b.st -o /dev/null -f",
        "avg a.st b.st -o /dev/full -f",
        "avg a.st b.st -o loop -f",
        f"avg a.st b.st -o {'n' * 300}",
        "demo taken",
        "demo none/demo",
    )


def test_a_folder_that_holds_an_input_is_not_replaced(refused, ingredients, soupctl):
    soupctl("avg", *ingredients, "-o", "soup", "--shard-size", "1k")
    Path("link").symlink_to("soup")

    refused(
        "output-of-inputs",
        OUTPUT,
        "avg soup a.st -o soup -f",
        "avg link a.st -o soup -f",
        "avg soup/model.safetensors a.st -o soup -f --shard-size 1k",
        "avg soup/model.safetensors a.st -o link -f --shard-size 1k",
    )


def test_limits_are_refused(refused, ingredients):
    refused("limits", LIMIT, "avg a.st b.st -o c.st --max-memory 1M")


def test_a_ledger_that_does_not_fit_is_refused(refused, ingredients, soupctl):
    soupctl("avg", *ingredients, "-o", "soup.st")
    raw = Path("soup.st").read_bytes()
    # the last byte belongs to a tensor
    Path("changed.st").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    newer = raw.replace(rb"\"format\":1", rb"\"format\":9")
    Path("newer.st").write_bytes(newer)
    Path("broken.st").write_bytes(raw.replace(rb"\"format\":1", rb"\"format\":["))

    assert raw != newer
    refused("ledger", LEDGER, *(f"avg a.st {each}.st -o c.st" for each in ("changed", "newer")))
    refused("ledger-broken", LEDGER, "avg a.st broken.st -o c.st")


def test_streams_that_are_no_safetensors_file_are_refused(refused, ingredients):
    whole = Path("a.st").read_bytes()
    streams = {
        "empty": b"",
        "short": whole[:4],
        "in-header": whole[:20],
        "in-data": whole[:-1],
        "longer": whole + b"\0",
        "pickle": pickle.dumps(Bomb()),
    }
    for name, stream in streams.items():
        refused(f"stream-{name}", INPUT, "avg - b.st -o c.st", stdin=stream)


def test_lists_that_are_none_are_refused(refused, ingredients):
    refused("list-of-files", INPUT, "avg --files-from - -o c.st", stdin=b"a.st\nnone.st\n")
    refused("list-of-digests", INPUT, "hash --check -", "hash --check none", stdin=b"hello\n")
    refused("list-of-nothing", INPUT, "hash --check -")


def test_a_list_is_never_waited_for_and_never_endless(soupctl, refused, ingredients):
    os.mkfifo("fifo")
    commands = [
        command.format(source)
        for source in ("fifo", "/dev/zero", ".")
        for command in ("hash --check {}", "avg none.st --files-from {} -o c.st")
    ]
    endless = soupctl("avg", "--files-from", "-", "-o", "c.st", stdin=Path("/dev/zero"))

    refused("list-of-irregulars", INPUT, *commands)
    expected = "soupctl: -: has more than 100000000 bytes, too many for a list\n"
    assert (INPUT, expected) == (endless.code, endless.message)


REFUSED_OUTPUTS = [
    "old.st",
    "none/c.st",
    "a.st/c.st",
    "a.st -f",
    "link.st -f",
    "taken",
    "fifo -f",
    "n" * 300,
    "none/c --shard-size 1k",
    "old --shard-size 1k -f",
    "taken --shard-size 1k -f",
    "soup --shard-size 1k",
    "foreign --shard-size 1k -f",
]


@pytest.fixture
def outputs(soupctl, ingredients) -> None:
    """What lies in the way of outputs."""
    for name in ("soup", "foreign"):
        soupctl("avg", *ingredients, "-o", name, "--shard-size", "1k")
    Path("foreign/precious").write_bytes(b"precious")
    for name in ("old", "old.st"):
        Path(name).write_bytes(b"old")
    Path("taken").mkdir()
    Path("link.st").symlink_to("a.st")
    os.mkfifo("fifo")


def test_a_plan_is_refused_as_the_making_would_be(soupctl, outputs, holds):
    before = holds()
    for output in REFUSED_OUTPUTS:
        arguments = ["avg", "a.st", "b.st", "-o", *output.split()]
        plan, making = soupctl(*arguments, "-n"), soupctl(*arguments)

        assert (OUTPUT, b"") == (making.code, making.out), output
        assert (making.code, making.out, making.err) == (plan.code, plan.out, plan.err), output
    for output in ("old.st -f", "soup --shard-size 1k -f"):
        plan = soupctl("avg", "a.st", "b.st", "-o", *output.split(), "-n")

        assert (0, b"") == (plan.code, plan.err), output
    assert before == holds()


def test_an_output_to_a_terminal_is_refused(soupctl, ingredients, holds):
    master, slave = os.openpty()
    before = holds()

    done = soupctl("avg", *ingredients, "-o", "-", out=Path(os.ttyname(slave)))

    os.set_blocking(master, False)
    with pytest.raises(BlockingIOError):
        os.read(master, 1)
    os.close(master)
    os.close(slave)
    expected = "soupctl: standard output: is a terminal (redirect it, or name a file)\n"
    assert (6, expected) == (done.code, done.message)
    assert before == holds()
