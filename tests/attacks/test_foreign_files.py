"""Files that are something else under a safetensors name: called what they are, and never run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest

from soupctl.checkpoints.safetensors import open_safetensors, read_header, spool_stream
from soupctl.errors import InputError


class Bomb:
    """Unpickled, it leaves a mark."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def torch_archive() -> bytes:
    with zipfile.ZipFile("archive", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    return Path("archive").read_bytes()


FOREIGN = {
    "is a pickle": lambda: pickle.dumps(Bomb(), 2),
    "is a pickle, too": lambda: pickle.dumps(Bomb(), 4) + bytes(1000),
    "is a zip archive": torch_archive,
    "is a git-lfs pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "looks like a web page": lambda: b"\n<!DOCTYPE html><html>Access denied</html>",
    "is a GGUF file": lambda: b"GGUF\3\0\0\0" + bytes(100),
    "is gzip-compressed": lambda: b"\x1f\x8b\x08\0" + bytes(100),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_named_by_its_format_and_never_run(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").write_bytes(FOREIGN[kind]())

    with pytest.raises(InputError, match=rf"^a\.safetensors: {kind.partition(',')[0]}"):
        open_safetensors(Path("a.safetensors"))

    assert not Path("exploded").exists()


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
