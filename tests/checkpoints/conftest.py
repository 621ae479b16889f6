"""Servers on loopback: one that speaks as web servers, S3 and the hub do, and an object store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import constants
from loopback import Loopback, serving
from object_store import ENVIRONMENT, PART, ObjectStore, storing
from remote_models import FIRST, A, B

from soupctl.checkpoints.remote import attempts, mirror, read_ahead, upload


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Loopback]:
    with serving() as state:
        for name, value in {
            "HF_ENDPOINT": state.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "AWS_ENDPOINT_URL": state.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "hidden",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        # other tests of the same process may have loaded the library offline
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        url = state.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(attempts, "WAIT", 0.001)
        monkeypatch.setattr(read_ahead, "LARGEST_BLOCK", 20_000)
        monkeypatch.setattr(read_ahead, "SMALLEST_BLOCK", 10_000)
        monkeypatch.setattr(mirror, "_MIRRORED", {})
        fsspec.filesystem("s3").clear_instance_cache()
        state.files = {"bucket/a.safetensors": A, "bucket/b.safetensors": B}
        for name, data in (("a", A), ("b", B)):
            state.commit(f"org/{name}", FIRST, {f"{name}.safetensors": data, "config.json": b"{}"})
        yield state


NUMBERS = count()


@pytest.fixture(scope="module")
def running() -> Iterator[ObjectStore]:
    with storing(PART) as store:
        yield store


@pytest.fixture
def store(running: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": running.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(attempts, "WAIT", 0.001)
    monkeypatch.setattr(upload, "PART", PART)
    monkeypatch.setattr(upload, "MEBIBYTE", 1000)
    monkeypatch.setattr(mirror, "_MIRRORED", {})
    fsspec.filesystem("s3").clear_instance_cache()
    running.clear()
    return running


@pytest.fixture
def bucket(store: ObjectStore) -> str:
    name = f"bucket-{next(NUMBERS)}"
    store.make_bucket(name)
    return name
