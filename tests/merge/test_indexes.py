"""Shards and their index: which are read, what may be missing, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import contents, save, save_shards
from weight_folders import INDEX, W, odd, refusal, spoil, tensors

from soupctl import verbs
from soupctl.checkpoints.checkpoint import open_checkpoint
from soupctl.checkpoints.layout import find_model
from soupctl.choices import OnMissing
from soupctl.errors import InputError, MismatchError
from soupctl.verbs import Request


def test_shards_are_one_set_of_tensors(tmp_path):
    save_shards(tmp_path / "m", "model", {"b": W, "c": W}, {"a": W})

    assert {"": ["a", "b", "c"]} == tensors(tmp_path / "m")
    assert {"": ["a", "b", "c"]} == tensors(tmp_path / "m" / INDEX)


def test_the_shards_of_a_hub_cache_are_links(tmp_path):
    save_shards(tmp_path / "blobs", "model", {"b": W}, {"a": W})
    (tmp_path / "snapshot").mkdir()
    for number, blob in enumerate(sorted((tmp_path / "blobs").iterdir())):
        name, hidden = blob.name, blob.with_name(str(number))
        blob.rename(hidden)
        (tmp_path / "snapshot" / name).symlink_to(Path("..", "blobs", hidden.name))

    assert {"": ["a", "b"]} == tensors(tmp_path / "snapshot")


SHARD = "model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: (folder / SHARD).unlink(), "is a missing shard"),
        (lambda folder: spoil(folder, a="../x.safetensors"), "is not the name of a file in this"),
        (lambda folder: spoil(folder, a="/etc/passwd"), "is not the name of a file in this"),
        (
            lambda folder: (folder / SHARD).write_bytes(b"\x00\x01"),
            "too few for a safetensors file",
        ),
        (lambda folder: (folder / INDEX).write_text("{}"), "it has no weight_map"),
        (
            lambda folder: (folder / INDEX).write_text('{"weight_map":{}}'),
            "index that lists no tensors",
        ),
    ],
)
def test_an_index_of_files_that_are_missing_or_unsound_is_refused(tmp_path, change, what):
    folder = save_shards(tmp_path / "m", "model", {"b": W}, {"a": W})
    change(folder)

    error = refusal(folder)
    assert isinstance(error, InputError)
    assert what in error.message()


def test_a_tensor_that_an_index_lists_and_no_shard_has_is_refused_with_a_way(tmp_path):
    folders = [odd(tmp_path / str(value), value, c=SHARD) for value in (1, 2)]
    request = Request(folders, tmp_path / "soup")
    with pytest.raises(MismatchError, match="lacks c, which its index lists") as caught:
        verbs.average(request)
    assert "--on-missing keep" in caught.value.message()

    kept = replace(request, on_missing=OnMissing.KEEP)
    with verbs.open_job(kept) as job:
        assert 2 == sum(
            "no shard has tensors that the index lists: c" in each for each in job.notes
        )
    verbs.average(kept)
    assert {"": ["a", "b"]} == tensors(tmp_path / "soup")
    index = json.loads((tmp_path / "soup" / INDEX).read_text())
    assert {"a", "b"} == index["weight_map"].keys()


@pytest.mark.parametrize("name", ["lm_head.weight", "text_model.embeddings.position_ids"])
def test_a_copy_or_a_constant_that_only_an_index_lists_may_be_missing(name, tmp_path):
    embedding = {"model.embed_tokens.weight": W}
    folders = [save_shards(tmp_path / n, "model", {"b": W}, embedding) for n in "xy"]
    for folder in folders:
        spoil(folder, **{name: SHARD})

    verbs.average(Request(folders, tmp_path / "soup"))
    assert {"": ["b", "model.embed_tokens.weight"]} == tensors(tmp_path / "soup")


def test_a_tensor_in_two_shards_is_read_from_the_last_and_said(tmp_path):
    folders = []
    for value in (1, 2):
        folders.append(odd(tmp_path / str(value), value))
        save(folders[-1] / SHARD, a=W - 1, b=W + value)
    request = Request(folders, tmp_path / "soup")
    with verbs.open_job(request) as job:
        assert all("the last shard that has a tensor counts for a" in note for note in job.notes)
    verbs.average(request)

    index = json.loads((tmp_path / "soup" / INDEX).read_text())
    assert {"a": SHARD.replace("1-of", "2-of"), "b": SHARD} == index["weight_map"]
    values = contents(tmp_path / "soup" / index["weight_map"]["a"])["a"][2]
    assert {np.float16(1.5)} == {*np.frombuffer(values, "f2")}


def test_metadata_comes_from_the_index_and_from_agreeing_shards(tmp_path):
    folder = save_shards(tmp_path / "m", "model", {"b": W}, {"a": W})
    save(folder / SHARD, {"format": "pt", "one": "1"}, b=W)
    content = json.loads((folder / INDEX).read_text())
    content["metadata"] = {"total_size": 12, "note": "x"}
    (folder / INDEX).write_text(json.dumps(content))
    (component,) = find_model(folder).components

    with open_checkpoint(component) as checkpoint:
        assert {"format": "pt", "note": "x"} == checkpoint.metadata
