"""Inputs that cannot be soups: one clear line, the documented exit code, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from harmful_pickle import HarmfulPickle

INPUT, MISMATCH = 3, 4


def file_of(header: str | bytes, data: bytes = bytes(8)) -> bytes:
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape: str = "[2]", offsets: str = "[0,8]", dtype: str = '"F32"') -> str:
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


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


def test_a_refused_average_over_time_says_only_why(soupctl, ingredients):
    Path("cut.st").write_bytes(HEADERS["truncated"])

    done = soupctl("ema", "a.st", "cut.st", "--sigma-rel", "0.1", "-o", "c.st")

    assert INPUT == done.code
    assert done.message.startswith("soupctl: cut.st: has ")
    assert 1 == done.message.count("\n")
    done = soupctl("ema", "a.st", "b.st", "--sigma-rel", "0.1", "-o", "c.st")
    assert "reproduce the profile with a relative error of" in done.message


def test_a_malformed_file_is_refused(refused, ingredients):
    for name, raw in HEADERS.items():
        Path(f"{name}.st").write_bytes(raw)

    refused("headers", INPUT, *(f"avg a.st {name}.st -o c.st" for name in HEADERS))
    refused("headers-look", INPUT, "inspect hole.st", "hash hole.st")


def test_a_pickle_is_never_opened_whatever_its_name(refused, ingredients):
    names = [f"p{protocol}.st" for protocol in range(6)]
    for protocol, name in enumerate(names):
        Path(name).write_bytes(pickle.dumps(HarmfulPickle("exploded"), protocol))
    for suffix in ("safetensors", "ckpt", "pt", "bin"):
        # what PyTorch writes
        with zipfile.ZipFile(f"zip.{suffix}", "w") as archive:
            archive.writestr(
                zipfile.ZipInfo("archive/data.pkl"), pickle.dumps(HarmfulPickle("exploded"), 2)
            )
        names.append(f"zip.{suffix}")

    refused("pickle", INPUT, *(f"avg a.st {name} -o c.st" for name in names))
    assert not Path("exploded").exists()


def test_a_folder_of_pickles_is_refused(refused, ingredients):
    Path("model").mkdir()
    Path("model/pytorch_model.bin").write_bytes(pickle.dumps(HarmfulPickle("exploded")))
    Path("empty").mkdir()

    refused("pickle-folder", INPUT, "avg model model -o c.st", "avg a.st empty -o c.st")


def test_an_irregular_file_is_refused_without_waiting(refused, ingredients, folder):
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

    refused("index", INPUT, *(f"avg {name} a.st -o c.st" for name in ("lacking", "itself")))
    refused("index-lists", MISMATCH, "avg elsewhere a.st -o c.st")


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
        save(f"{name}-other.st", {first: down + 1, second: up})

    refused("lora", MISMATCH, *(f"avg {name}.st {name}-other.st -o c.st" for name in names))


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
