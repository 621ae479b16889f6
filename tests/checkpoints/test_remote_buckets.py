"""Checkpoints in buckets, as a store from a package answers: the same soups, or one clear line."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from object_store import ObjectStore
from remote_models import A, B, local_root, model

from soupctl import verbs
from soupctl.checkpoints.remote import buckets
from soupctl.errors import InputError, OutputError
from soupctl.verbs import Request


@pytest.fixture
def places(store: ObjectStore, bucket: str) -> list[str]:
    """A checkpoint as an object, and one below a prefix."""
    store.put(bucket, "a.safetensors", A)
    store.put(bucket, "b/model.safetensors", B)
    store.put(bucket, "b-other/model.safetensors", b"no checkpoint")
    return [f"s3://{bucket}/a.safetensors", f"s3://{bucket}/b"]


@pytest.mark.parametrize("is_versioned", [False, True])
def test_soups_of_objects_are_those_of_files(
    is_versioned: bool, places: list[str], store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    if is_versioned:
        store.backend.put_bucket_versioning(bucket, "Enabled")
        for key, data in store.objects(bucket).items():
            store.put(bucket, key, data)
    root = local_root(tmp_path)
    store.clear()
    (made,) = verbs.average(Request(places, tmp_path / "soup.st"))
    assert made.ledger.root == root
    headers = 2 * (16 << 10)
    assert store.sent <= 1.02 * (len(A) + len(B)) + headers


def test_passing_faults_change_nothing(
    places: list[str], store: ObjectStore, tmp_path: Path
) -> None:
    root = local_root(tmp_path)
    faults = ["500", "cut", "slow", "lost"]
    random.Random(1).shuffle(faults)
    store.faults["get"].extend(faults)
    for kind in ("head", "list"):
        store.faults[kind].extend(["500", "lost"])
    (made,) = verbs.average(Request(places, tmp_path / "soup.st"))
    assert made.ledger.root == root
    assert not any(store.faults.values())


def test_an_object_that_is_replaced_meanwhile_is_an_error(
    places: list[str], store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    seen = []

    def replace(kind: str) -> None:
        seen.append(kind)
        if kind == "get" and seen.count("get") == 3:
            store.put(bucket, "a.safetensors", model(3))

    store.before = replace
    with pytest.raises(OutputError, match="changed while it was read"):
        verbs.average(Request(places, tmp_path / "soup.st"))
    assert not [*tmp_path.iterdir()]


def test_a_listing_without_end_is_given_up(
    places: list[str], store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "MOST_PAGES", 3)
    for number in range(3):
        store.put(bucket, f"b/{number}", b"")
    monkeypatch.setattr(store, "most_listed", 1)
    store.clear()
    with pytest.raises(InputError) as refusal:
        verbs.inspect(places[1])
    assert refusal.value.message() == (
        f"s3://{bucket}/b: cannot be read: its listing has more than 3 pages"
        " (download it, and name the copy)"
    )
    assert store.requests.count("list") < 10
