"""Checkpoints in buckets, as a store from a package answers: the same soups, or one clear line."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from object_store import ObjectStore
from remote_models import A, B, local_root, model

from soupctl import verbs
from soupctl.checkpoints.remote import s3_objects
from soupctl.checkpoints.remote.address import address_of
from soupctl.checkpoints.remote.buckets import StoredObject, bucket_listing
from soupctl.errors import InputError, OutputError, UsageError
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
    monkeypatch.setattr(s3_objects, "MOST_PAGES", 3)
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


def test_a_version_of_an_object_is_read_and_named_in_the_ledger(
    places: list[str], store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    root = local_root(tmp_path)
    store.backend.put_bucket_versioning(bucket, "Enabled")
    store.put(bucket, "a.safetensors", A)
    version = store.backend.buckets[bucket].keys["a.safetensors"].version_id
    store.put(bucket, "a.safetensors", model(3))
    pinned = f"{places[0]}?versionId={version}"
    (made,) = verbs.average(Request([pinned, places[1]], tmp_path / "soup.st"))
    assert made.ledger.root == root
    assert [each.hint for each in made.ledger.ingredients] == [pinned, places[1]]
    address = address_of(pinned)
    assert address is not None
    assert bucket_listing(address).hint == pinned
    with pytest.raises(InputError, match="cannot be read: there is no such file"):
        verbs.inspect(f"{places[0]}?versionId=none")
    with pytest.raises(UsageError, match="has a query or a fragment"):
        verbs.inspect(f"{places[0]}?X-Amz-Signature=hidden")
    with pytest.raises(UsageError, match="names a version, and an object that is written"):
        verbs.average(Request([places[1]], pinned))


def test_reads_ask_for_no_version_besides(places: list[str], store: ObjectStore) -> None:
    address = address_of(places[0])
    assert address is not None
    (found,) = bucket_listing(address).files.values()
    assert b"".join(found.read(at, at + 1000) for at in range(0, 5000, 1000)) == A[:5000]
    assert store.requests == ["head", *["get"] * 5]


def test_listings_that_tell_fractions_of_seconds_are_of_the_same_version() -> None:
    second = datetime(2026, 1, 1, 12, tzinfo=UTC)
    listed = {"ETag": '"1"', "LastModified": second.replace(microsecond=123000)}
    assert s3_objects.version_of(listed) == s3_objects.version_of(
        {"ETag": '"1"', "LastModified": second}
    )
    later = {"ETag": '"1"', "LastModified": second.replace(second=1)}
    assert s3_objects.version_of(listed) != s3_objects.version_of(later)


class GoogleBucket:
    """A bucket of Google Cloud Storage with one object, as gcsfs tells of it."""

    def __init__(self, *versions: bytes) -> None:
        self.versions = versions
        self.asked: list[str] = []

    def invalidate_cache(self) -> None:
        pass

    def info(self, _name: str, **_: object) -> dict[str, object]:
        self.asked.append("info")
        generation = str(len(self.versions))
        return {"type": "file", "size": len(self.versions[-1]), "generation": generation}

    def cat_file(self, name: str, *, start: int, end: int, **_: object) -> bytes:
        self.asked.append(name)
        _, _, generation = name.partition("#")
        return self.versions[int(generation or len(self.versions)) - 1][start:end]


def test_the_generation_that_was_found_is_asked_for() -> None:
    there = GoogleBucket(b"1234", b"5678")
    first = StoredObject(there, "b/a", "gs://b/a", 4, "1", ("1",))
    assert first.read(1, 3) == b"23"
    assert there.asked == ["b/a#1"]
    assert not first.is_unchanged()
    # a server that names no generation is asked for its version after each read
    nameless = StoredObject(there, "b/a", "gs://b/a", 4, None, ("1",))
    with pytest.raises(OutputError, match="changed while it was read"):
        nameless.read(0, 4)
