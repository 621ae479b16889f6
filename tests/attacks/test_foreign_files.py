"""Files that are something else under a safetensors name: called what they are, and never run."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
from harmful_pickle import HarmfulPickle

from soupctl.checkpoints.safetensors import open_safetensors, read_header, spool_stream
from soupctl.errors import InputError


def torch_archive() -> bytes:
    with zipfile.ZipFile("archive", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(HarmfulPickle("exploded")))
    return Path("archive").read_bytes()


FOREIGN = {
    "is a pickle": lambda: pickle.dumps(HarmfulPickle("exploded"), 2),
    "is a pickle, too": lambda: pickle.dumps(HarmfulPickle("exploded"), 4) + bytes(1000),
    "is a zip archive": torch_archive,
    "is a git-lfs pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "looks like a web page": lambda: b"\n<!DOCTYPE html><html>Access denied</html>",
    "is a GGUF file": lambda: b"GGUF\3\0\0\0" + bytes(100),
    "is gzip-compressed": lambda: b"\x1f\x8b\x08\0" + bytes(100),
    "is an HDF5 file": lambda: b"\x89HDF\r\n\x1a\n" + bytes(100),
    "is a 7z archive": lambda: b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(100),
    "is xz-compressed": lambda: b"\xfd7zXZ\0\0\x04" + bytes(100),
    "is zstd-compressed": lambda: b"\x28\xb5\x2f\xfd\x04\0\x01\x02" + bytes(100),
    "is an ONNX file": lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.3.0:" + bytes(100),
    "is a TensorFlow Lite file": lambda: b"\x1c\0\0\0TFL3" + bytes(100),
    "is a NumPy array": lambda: b"\x93NUMPY\x01\0v\0{'descr': '<f4'}".ljust(128),
    "is an AppleDouble file": lambda: b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(100),
    "is JSON text": lambda: b'{"error":"Unauthorized"}',
    "is JSON text, too": lambda: b'\n [{"weight_map": {}}]' + b" " * 100,
    "is text": lambda: b"Access to model x/y is restricted. You must have access to it.",
}
WHOLE = {
    "is a zip archive of NumPy arrays": b"PK\x03\x04" + bytes(22) + b"\x05\0\0\0w.npy" + bytes(99),
    "begins with zeros": bytes(200),
}
"""Files for which the eight bytes that are read of a stream are too few."""


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_named_by_its_format_and_never_run(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").write_bytes(FOREIGN[kind]())

    with pytest.raises(InputError, match=rf"^a\.safetensors: {kind.partition(',')[0]}"):
        open_safetensors(Path("a.safetensors"))

    assert not Path("exploded").exists()


@pytest.mark.parametrize("kind", WHOLE)
def test_a_foreign_file_is_named_by_more_than_its_first_bytes(kind, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(WHOLE[kind])

    with pytest.raises(InputError, match=kind):
        open_safetensors(tmp_path / "a.safetensors")


def test_the_answer_of_a_server_is_quoted_without_its_control_characters(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b'{"error":"Not found\xc2\x9b2J"}' + b" " * 100)

    with pytest.raises(InputError) as caught:
        open_safetensors(tmp_path / "a.safetensors")
    what = caught.value.issues[0].what
    assert what.endswith(r"""it begins with '{"error":"Not found\x9b2J"}'""")


@pytest.mark.parametrize("size", [0x227B, 0x2020, 0x3C, 0x5B])
def test_a_damaged_header_of_a_length_that_looks_like_text_is_no_text(size, tmp_path):
    (tmp_path / "a.st").write_bytes(size.to_bytes(8, "little") + b"x" * size)

    with pytest.raises(InputError, match="its header is not valid"):
        open_safetensors(tmp_path / "a.st")


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_stream_is_named_by_its_format_and_never_run(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stream").write_bytes(FOREIGN[kind]())

    refused = pytest.raises(InputError, match=f"^standard input: {kind.partition(',')[0]}")
    with Path("stream").open("rb") as stream, refused:
        spool_stream(stream.fileno(), "standard input", tmp_path)

    assert not Path("exploded").exists()


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(tmp_path):
    text = b"{}".ljust(0x280)
    (tmp_path / "a.st").write_bytes(len(text).to_bytes(8, "little") + text)
    assert (tmp_path / "a.st").read_bytes()[:2] == b"\x80\x02"

    assert read_header(tmp_path / "a.st").tensors == ()
