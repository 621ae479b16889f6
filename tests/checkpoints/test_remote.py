"""Checkpoints on servers: the same soups, no more bytes than needed, and one clear line for faults.

Rule 1: the server is on loopback, and its faults befall the reads that the test names.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from loopback import Loopback
from remote_models import FIRST, PLACES, A, B, average, local_root, model, places
from safetensors.numpy import load, save

from soupctl import verbs
from soupctl.checkpoints.remote import mirror, read_ahead
from soupctl.errors import InputError, OutputError
from soupctl.verbs import Request


@pytest.mark.parametrize("kind", PLACES)
def test_soup_of_remote_checkpoints_is_that_of_local_ones(
    kind: str, server: Loopback, tmp_path: Path
) -> None:
    root = local_root(tmp_path)
    assert average(server, kind, tmp_path) == root
    # headers are read in one piece of a fixed size, so that small files cost relatively more
    data = len(A) + len(B)
    headers = 2 * (16 << 10)
    assert server.sent <= 1.02 * data + headers
    assert len(server.requests) < data / 5_000
    assert b"hidden" not in (tmp_path / "soup.st").read_bytes()
    assert {*tmp_path.glob("*.st")} == {tmp_path / "local.st", tmp_path / "soup.st"}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("fault", ["500", "cut", "slow"])
def test_passing_faults_change_nothing(
    kind: str, fault: str, server: Loopback, tmp_path: Path
) -> None:
    root = local_root(tmp_path)
    server.faults.extend([fault] * 3)
    assert average(server, kind, tmp_path) == root
    assert not server.faults


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("fault", ["500", "cut"])
def test_lasting_faults_are_one_line_and_leave_nothing(
    kind: str, fault: str, server: Loopback, tmp_path: Path
) -> None:
    server.faults.extend([fault] * 1000)
    with pytest.raises(InputError) as refusal:
        average(server, kind, tmp_path)
    message = refusal.value.message()
    assert "5 times (try again later)" in message
    assert "\n" not in message
    assert "hidden" not in message
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["web", "s3"])
@pytest.mark.parametrize("shorter", [False, True])
def test_object_replaced_meanwhile_is_an_error(
    kind: str, shorter: bool, server: Loopback, tmp_path: Path
) -> None:
    seen = []

    def replace(path: str) -> None:
        seen.append(path)
        if len(seen) == 8:
            server.files["bucket/a.safetensors"] = A[:5000] if shorter else model(3)

    server.on_range = replace
    with pytest.raises(OutputError) as refusal:
        average(server, kind, tmp_path)
    assert refusal.value.exit_code == 6
    shown = places(server, kind)[0].partition("?")[0]
    assert refusal.value.message() == f"{shown}: changed while it was read"
    assert not [*tmp_path.iterdir()]


def test_repository_is_a_folder_with_its_config(server: Loopback, tmp_path: Path) -> None:
    for name, seed in (("x", 1), ("y", 2)):
        halves = [save({f"t{n}": np.float32([seed, n])}) for n in range(2)]
        shards = {f"t{n}": f"model-{n}.safetensors" for n in range(2)}
        index = {"metadata": {}, "weight_map": shards}
        server.commit(
            f"org/{name}",
            FIRST,
            {
                "sub/config.json": b'{"layers": 2}',
                "sub/model.safetensors.index.json": json.dumps(index).encode(),
                **{f"sub/model-{n}.safetensors": half for n, half in enumerate(halves)},
                "sub/run.py": b"raise SystemExit",
                "other.safetensors": b"damaged",
            },
        )
    verbs.average(Request(["hf://org/x@main/sub", "hf://org/y/sub"], tmp_path / "soup"))
    assert (tmp_path / "soup" / "config.json").read_bytes() == b'{"layers": 2}'
    assert not (tmp_path / "soup" / "run.py").exists()
    assert len([*(tmp_path / "soup").glob("*.safetensors")]) == 2


def test_file_in_the_hub_cache_is_not_fetched(server: Loopback, tmp_path: Path) -> None:
    root = local_root(tmp_path)
    for name, data in (("a", A), ("b", B)):
        repository = tmp_path / "hub" / f"models--org--{name}"
        snapshot = repository / "snapshots" / FIRST
        snapshot.mkdir(parents=True)
        (snapshot / f"{name}.safetensors").write_bytes(data)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(FIRST)
    assert average(server, "hub", tmp_path) == root
    assert server.sent < 2000
    assert not [each for each in server.requests if "bytes=" in each]


def test_every_byte_of_shards_is_fetched_once(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "LARGEST_BLOCK", 4 << 20)
    random, sizes = np.random.default_rng(1), 0
    for name in "xy":
        layers = {f"t.{n}": random.standard_normal(30_000, dtype=np.float32) for n in range(24)}
        shards = {each: f"model-{int(each[2:]) // 2:02}.safetensors" for each in layers}
        files = {
            file: save({each: layers[each] for each in layers if shards[each] == file})
            for file in shards.values()
        }
        sizes += sum(map(len, files.values()))
        index = json.dumps({"metadata": {}, "weight_map": shards}).encode()
        server.commit(f"org/{name}", FIRST, {"model.safetensors.index.json": index, **files})
    verbs.average(Request(["hf://org/x", "hf://org/y"], tmp_path / "soup"))
    ranges = [each for each in server.requests if "model-" in each]
    asked = [[*map(int, each.rpartition("bytes=")[2].split("-"))] for each in ranges]
    # the first bytes with the header, and all that follow them
    assert sum(last + 1 - first for first, last in asked) == sizes
    assert len(asked) == 2 * 24


@pytest.mark.parametrize("kind", PLACES)
def test_an_index_stands_for_its_shards(kind: str, server: Loopback, tmp_path: Path) -> None:
    tensors = load(A)
    names = sorted(tensors)
    shards = {f"model-{n}.safetensors": names[n::2] for n in range(2)}
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    files = {shard: save({n: tensors[n] for n in held}) for shard, held in shards.items()}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    server.commit("org/m", FIRST, files)
    server.files |= {f"bucket/m/{name}": data for name, data in files.items()}
    start = {"web": f"{server.url}/bucket/m", "s3": "s3://bucket/m", "hub": "hf://org/m"}[kind]
    address = f"{start}/model.safetensors.index.json"
    (made,) = verbs.average(Request([address, "s3://bucket/b.safetensors"], tmp_path / "soup.st"))
    assert made.ledger.root == local_root(tmp_path)
    # what the ledger names can be read again
    hint = next(each.hint for each in made.ledger.ingredients if "index" in each.name)
    assert hint == address.replace("org/m/", f"org/m@{FIRST}/")
    if kind == "s3":
        del server.files["bucket/m/model-1.safetensors"]
        mirror._MIRRORED.clear()
        with pytest.raises(InputError, match=r"m/model-1\.safetensors: cannot be read"):
            verbs.inspect(address)
        # objects below the name of a shard are not the shard
        server.files["bucket/m/model-1.safetensors/x"] = b""
        mirror._MIRRORED.clear()
        with pytest.raises(InputError, match=r"m/model-1\.safetensors: cannot be read"):
            verbs.inspect(address)


@pytest.mark.parametrize("kind", PLACES)
def test_an_empty_index_is_no_index(kind: str, server: Loopback) -> None:
    name = "model.safetensors.index.json"
    server.commit("org/m", FIRST, {name: b""})
    server.files[f"bucket/m/{name}"] = b""
    start = {"web": f"{server.url}/bucket/m", "s3": "s3://bucket/m", "hub": "hf://org/m"}[kind]
    with pytest.raises(InputError, match="is not a valid index"):
        verbs.inspect(f"{start}/{name}")
