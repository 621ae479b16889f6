"""A data shard is digested from its files alone, and its record is bound to that digest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from soupctl.errors import InputError
from soupctl.ledger.data_shard import (
    ImageRecord,
    data_digest,
    encode_record,
    images_digest,
    read_data_folder,
    read_data_record,
)


def write(path: Path, data: bytes) -> str:
    """The digest of what is written; the bytes need not be an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return "blake3:" + blake3(data).hexdigest()


def test_captions_and_labels_come_from_sidecar_files_and_folders(tmp_path):
    first = write(tmp_path / "dogs/b.png", b"1")
    second = write(tmp_path / "a.JPG", b"2")
    write(tmp_path / "a.txt", b"a cat\n\n  a pet \n")
    write(tmp_path / "notes.pdf", b"no image")

    assert (
        ImageRecord("a.JPG", second, ("a cat", "a pet")),
        ImageRecord("dogs/b.png", first, (), "dogs"),
    ) == read_data_folder(tmp_path).images()


def test_captions_come_from_a_column_of_metadata(tmp_path):
    digest = write(tmp_path / "a.png", b"1")
    row = {"file_name": "a.png", "text": "a cat", "long": ["a black cat"], "label": 3}
    write(tmp_path / "metadata.jsonl", json.dumps(row).encode())

    found = read_data_folder(tmp_path)
    assert (ImageRecord("a.png", digest, ("a cat",), "3"),) == found.images()
    assert ("a black cat",) == found.images("long")[0].captions


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ('{"file_name": "b.png"}', "an image is in metadata.jsonl but missing: b.png"),
        ("[", "an image is described by a malformed line of metadata.jsonl (not JSON): line 1"),
        ("", "an image is not in metadata.jsonl: a.png"),
    ],
)
def test_a_data_shard_that_is_not_described_right_is_refused(tmp_path, row, what):
    write(tmp_path / "a.png", b"1")
    write(tmp_path / "metadata.jsonl", row.encode())

    with pytest.raises(InputError) as refused:
        images_digest(tmp_path)

    assert what in [issue.what for issue in refused.value.issues]


def test_a_folder_without_images_is_no_data_shard(tmp_path):
    write(tmp_path / "a.txt", b"a cat")

    with pytest.raises(InputError, match="contains no images"):
        read_data_folder(tmp_path)


def test_the_digest_covers_name_bytes_captions_and_label_in_any_order():
    one = ImageRecord("a.png", "blake3:" + "1" * 64, ("a cat",), "cats")
    other = ImageRecord("b.png", "blake3:" + "2" * 64)
    changed = [
        replace(one, name="c.png"),
        replace(one, digest=other.digest),
        replace(one, captions=()),
        replace(one, label=None),
    ]

    digests = {data_digest([each, other]) for each in (one, *changed)}

    assert data_digest([one, other]) == data_digest([other, one])
    assert len(digests) == 1 + len(changed)


def test_a_record_is_read_as_it_was_written(tmp_path):
    images = (
        ImageRecord("a\u2028.png", "blake3:" + "1" * 64, ("a\ncat", "ein K\u00e4tzchen"), "cats"),
        ImageRecord("b/c.png", "blake3:" + "2" * 64),
    )
    write(tmp_path / "data.jsonl", encode_record(images))

    assert images == read_data_record(tmp_path / "data.jsonl")


@pytest.mark.parametrize(
    "text", ["[", "[]", "{}", '{"file_name":1}', "[" * 100_000, '{"a":' * 50_000, "\udc80", "null"]
)
def test_a_malformed_record_is_refused(tmp_path, text):
    write(tmp_path / "data.jsonl", text.encode("utf-8", "surrogateescape"))

    with pytest.raises(InputError, match="is not a valid record of a data shard"):
        read_data_record(tmp_path / "data.jsonl")
