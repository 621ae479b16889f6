"""Soups written to object stores: the bytes of a file, or one clear line and nothing left."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_store import PART, ObjectStore
from processes import PATIENCE, started
from safetensors.numpy import save_file

from soupctl import verbs
from soupctl.checkpoints.remote import attempts, targets, upload
from soupctl.checkpoints.remote.address import address_of
from soupctl.checkpoints.remote.buckets import file_system
from soupctl.errors import InputError, OutputError, SoupError, UsageError
from soupctl.verbs import Application, ConvertRequest, DeltaRequest, Request, Revision

KINDS = ("part", "complete")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Checkpoints whose tensors lie by dtype, and are made by name."""
    folder = tmp_path_factory.mktemp("inputs")
    paths = []
    for seed, name in enumerate("abc"):
        random = np.random.default_rng(seed)
        tensors: dict[str, Any] = {
            f"block.{n}.weight": random.standard_normal(4000 + n).astype(np.float16)
            for n in range(25)
        }
        tensors |= {
            f"block.{n}.bias": random.standard_normal(900).astype(np.float32) for n in range(25)
        }
        paths.append(folder / f"{name}.safetensors")
        save_file(tensors, paths[-1])
    return paths


def root_at(address: str) -> str:
    """The root of the tensors of an object, which are read and match its ledger."""
    (proof,) = verbs.verify(address)
    assert proof.level is not verbs.Level.HEADER
    return proof.ledger.root


def test_the_object_has_the_tensors_of_the_file(
    store: ObjectStore, bucket: str, inputs: list[Path], tmp_path: Path
) -> None:
    (here,) = verbs.average(Request(inputs, tmp_path / "soup.safetensors"))
    (there,) = verbs.average(Request(inputs, f"s3://{bucket}/soup.safetensors"))
    assert there.ledger.root == here.ledger.root
    assert {each.hint for each in there.ledger.ingredients} == {each.name for each in inputs}
    assert store.requests.count("part") == 8
    assert {*store.objects(bucket)} == {"soup.safetensors"}
    assert not store.uploads(bucket)
    (tmp_path / "copy.safetensors").write_bytes(store.objects(bucket)["soup.safetensors"])
    (proof,) = verbs.verify(tmp_path / "copy.safetensors", inputs)
    assert proof.level is verbs.Level.REBUILD
    assert store.received < 1.02 * len(store.objects(bucket)["soup.safetensors"]) + 20_000


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("create", "500"), *((kind, fault) for kind in KINDS for fault in ("500", "lost", "slow"))],
)
def test_passing_faults_change_nothing(
    kind: str, fault: str, store: ObjectStore, bucket: str, inputs: list[Path], tmp_path: Path
) -> None:
    (here,) = verbs.average(Request(inputs, tmp_path / "soup.safetensors"))
    store.faults[kind].extend([fault] * (2 if kind == "part" or fault != "slow" else 1))
    (there,) = verbs.average(Request(inputs, f"s3://{bucket}/soup.safetensors"))
    assert not store.faults[kind]
    assert there.ledger.root == here.ledger.root
    assert root_at(f"s3://{bucket}/soup.safetensors") == here.ledger.root


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("create", "500"),
        ("part", "500"),
        ("part", "lost"),
        ("complete", "500"),
        ("complete", "cut"),
    ],
)
def test_lasting_faults_are_one_line_and_leave_nothing(
    kind: str, fault: str, store: ObjectStore, bucket: str, inputs: list[Path]
) -> None:
    store.faults[kind].extend([fault] * 1000)
    if fault == "cut":
        store.faults["head"].extend(["500"] * 1000)
    with pytest.raises(OutputError) as refusal:
        verbs.average(Request(inputs, f"s3://{bucket}/soup.safetensors"), force=True)
    message = refusal.value.message()
    assert message.startswith(f"s3://{bucket}/soup.safetensors: cannot be written: ")
    assert message.endswith(", 5 times (try again later)")
    assert "hidden" not in message
    if (kind, fault) != ("complete", "cut"):
        assert not store.objects(bucket)
    if kind != "create":
        assert not store.uploads(bucket)


def test_parts_that_cannot_be_removed_are_told(
    store: ObjectStore, bucket: str, inputs: list[Path]
) -> None:
    for kind in ("part", "abort"):
        store.faults[kind].extend(["500"] * 1000)
    with pytest.raises(OutputError, match="parts of it remain there, as an unfinished upload"):
        verbs.average(Request(inputs, f"s3://{bucket}/soup.safetensors"))
    assert not store.objects(bucket)


def test_an_object_is_replaced_only_by_force(
    store: ObjectStore, bucket: str, inputs: list[Path]
) -> None:
    target = f"s3://{bucket}/soup.safetensors"
    store.put(bucket, "soup.safetensors", b"old")
    with pytest.raises(OutputError) as refusal:
        verbs.average(Request(inputs, target))
    assert refusal.value.message() == f"{target}: exists (-f replaces it)"
    assert "create" not in store.requests
    assert store.objects(bucket) == {"soup.safetensors": b"old"}
    verbs.average(Request(inputs, target), force=True)
    assert len(store.objects(bucket)["soup.safetensors"]) > 200_000


@pytest.mark.parametrize("knows_conditions", [True, False])
def test_an_object_that_appears_meanwhile_stays(
    knows_conditions: bool, store: ObjectStore, bucket: str, inputs: list[Path]
) -> None:
    def put(kind: str) -> None:
        if kind == "complete":
            store.put(bucket, "soup.safetensors", b"other")

    store.before = put
    if not knows_conditions:
        store.faults["complete"].append("no-conditions")
    with pytest.raises(OutputError, match="exists"):
        verbs.average(Request(inputs, f"s3://{bucket}/soup.safetensors"))
    assert store.objects(bucket) == {"soup.safetensors": b"other"}
    assert not store.uploads(bucket)


def test_stores_without_conditions_take_objects(
    store: ObjectStore, bucket: str, inputs: list[Path]
) -> None:
    store.faults["complete"].append("no-conditions")
    verbs.average(Request(inputs, f"s3://{bucket}/soup.safetensors"))
    assert {*store.objects(bucket)} == {"soup.safetensors"}


def test_an_input_that_changes_meanwhile_leaves_nothing(
    store: ObjectStore, bucket: str, inputs: list[Path], tmp_path: Path
) -> None:
    mine = [tmp_path / each.name for each in inputs[:2]]
    for each, path in zip(inputs, mine, strict=False):
        path.write_bytes(each.read_bytes())

    def touch(kind: str) -> None:
        if kind == "part":
            os.utime(mine[0], ns=(1, 1))

    store.before = touch
    with pytest.raises(OutputError, match="changed"):
        verbs.average(Request(mine, f"s3://{bucket}/soup.safetensors"))
    assert not store.objects(bucket)
    assert not store.uploads(bucket)


def test_an_input_is_not_replaced(store: ObjectStore, bucket: str, inputs: list[Path]) -> None:
    store.put(bucket, "a.safetensors", inputs[0].read_bytes())
    place = f"s3://{bucket}/a.safetensors"
    with pytest.raises(OutputError) as refusal:
        verbs.average(Request([place, inputs[1]], place), force=True)
    assert refusal.value.message() == f"{place}: is also an input (choose another output)"


def test_other_commands_write_objects_too(
    store: ObjectStore, bucket: str, inputs: list[Path], tmp_path: Path
) -> None:
    place = f"s3://{bucket}"
    a, b, c = inputs
    (whole,) = verbs.average(Request([a, b, c], tmp_path / "abc.safetensors"))
    (two,) = verbs.average(Request([a, b], f"{place}/ab.safetensors"))
    more, less = f"{place}/abc.safetensors", f"{place}/less.safetensors"
    where = (a.parent,)
    verbs.revise(Revision("add", f"{place}/ab.safetensors", more, added=[c], search=where))
    assert root_at(more) == whole.ledger.root
    verbs.revise(Revision("subtract", more, less, removed=[c], search=where))
    verbs.make_delta(DeltaRequest(b, a, f"{place}/delta.safetensors"))
    delta, again = f"{place}/delta.safetensors", f"{place}/again.safetensors"
    verbs.apply(Application(a, [delta], again))
    verbs.convert(ConvertRequest(a, f"{place}/a.safetensors", dtype=verbs.DType.F32))
    assert root_at(less) == two.ledger.root
    assert not store.uploads(bucket)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("https://example.org/soup.st?token=hidden", "is on a web server, and soups are written"),
        ("hf://org/name", "is a repository, and soups are written to files and buckets (make a"),
        ("s3://bucket", "is not the address of an object (s3://BUCKET/NAME)"),
        ("s3://bucket/", "is not the address of an object (s3://BUCKET/NAME)"),
        ("s3://bucket/soup.gguf", "a .gguf file holds no safetensors"),
        ("s3://none/soup.st", "cannot be written: there is no such bucket"),
    ],
)
def test_places_that_hold_no_objects_are_refused(
    output: str, problem: str, store: ObjectStore, inputs: list[Path]
) -> None:
    with pytest.raises(SoupError) as refusal:
        verbs.average(Request(inputs, output))
    assert f"{output.partition('?')[0].rstrip('/')}: {problem}" in refusal.value.message()
    assert "hidden" not in refusal.value.message()


def test_few_parts_are_held(
    store: ObjectStore, bucket: str, inputs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    fill = upload.Upload._fill

    def counting(self: Any, number: int, start: int, piece: memoryview) -> None:
        fill(self, number, start, piece)
        waiting = sum(not each.done() for each in [*self._sent.values()])
        held.append(len(self._buffers) + waiting)

    monkeypatch.setattr(upload.Upload, "_fill", counting)
    store.faults["part"].extend(["slow"] * 1000)
    verbs.average(Request(inputs, f"s3://{bucket}/soup.safetensors"))
    assert max(held) * PART <= upload.most_held(200_000)


def test_large_objects_have_no_more_parts_than_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in (1, 8 << 20, 80 << 30, (80 << 30) + 1, 5 << 40):
        part = upload.part_size(size)
        assert part >= 8 << 20
        assert -(-size // part) <= 10_000
        assert part % (1 << 20) == 0


@pytest.mark.parametrize(
    ("number", "last"), [(signal.SIGINT, "create"), (signal.SIGTERM, "complete")]
)
def test_signals_leave_nothing(
    number: signal.Signals, last: str, store: ObjectStore, bucket: str, inputs: list[Path]
) -> None:
    seen, signalled = threading.Event(), threading.Event()

    def notice(kind: str) -> None:
        # the server goes on with a request whose client does not wait for the answer
        if kind == last:
            seen.set()
            signalled.wait(PATIENCE)

    store.before = notice
    target = f"s3://{bucket}/soup.safetensors"
    with started(sys.executable, "-m", "soupctl", "avg", *inputs, "-o", target) as process:
        assert seen.wait(PATIENCE)
        process.send_signal(number)
        signalled.set()
        assert process.wait(PATIENCE) == 128 + number
    assert last != "create" or store.requests[-1] == "abort"
    assert not store.uploads(bucket)


def test_a_wait_for_another_attempt_ends_with_the_upload(
    store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "WAIT", 60.0)
    address = address_of(f"s3://{bucket}/soup.safetensors")
    assert address is not None
    made = upload.Upload(file_system("s3"), address, 10)
    requested = threading.Event()
    store.before = lambda _: requested.set()
    store.faults["create"].append("500")
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(made.begin)
        assert requested.wait(PATIENCE)
        assert made.abort()
        with pytest.raises(CancelledError):
            begun.result(PATIENCE)


def test_a_signal_while_a_thread_starts_leaves_no_upload(
    store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = address_of(f"s3://{bucket}/soup.safetensors")
    assert address is not None
    made = upload.Upload(file_system("s3"), address, 10)
    requested, answered = threading.Event(), threading.Event()

    def notice(kind: str) -> None:
        if kind == "create":
            requested.set()
            answered.wait(PATIENCE)

    def interrupted(run: Any) -> None:
        threading.Thread(target=run).start()
        assert requested.wait(PATIENCE)
        raise KeyboardInterrupt

    store.before = notice
    monkeypatch.setattr(made._pool, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.begin()
    with ThreadPoolExecutor(1) as pool:
        aborted = pool.submit(made.abort)
        # it cannot end before the answer
        with pytest.raises(TimeoutError):
            aborted.result(0.5)
        answered.set()
        assert aborted.result(PATIENCE)
    assert store.requests == ["create", "abort"]
    assert not store.uploads(bucket)


class OneWayStore:
    """A file system of fsspec that takes objects whole, as that of Google Cloud Storage does."""

    retries = 5

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self.failures: list[Exception] = []
        self.lost: list[Exception] = []
        """Raised after objects were written."""

    def invalidate_cache(self) -> None:
        pass

    def info(self, name: str, **_: Any) -> dict[str, Any]:
        if name not in self.objects:
            raise FileNotFoundError
        size, metadata = len(self.objects[name]), self.metadata.get(name)
        return {"type": "file", "size": size, **({"metadata": metadata} if metadata else {})}

    def put_file(self, path: str, name: str, mode: str, metadata: dict[str, str]) -> None:
        if self.failures:
            raise self.failures.pop()
        if mode == "create" and name in self.objects:
            raise FileExistsError
        self.objects[name], self.metadata[name] = Path(path).read_bytes(), metadata
        if self.lost:
            raise self.lost.pop()


def test_stores_that_take_objects_whole_get_them_from_a_spool(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = OneWayStore()
    monkeypatch.setattr(targets, "file_system", lambda _: there)
    monkeypatch.setattr(attempts, "WAIT", 0.001)
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))
    there.failures = [TimeoutError()] * 2
    (made,) = verbs.average(Request(inputs, "gs://bucket/soup.st"))
    (tmp_path / "copy.st").write_bytes(there.objects["bucket/soup.st"])
    assert root_at(str(tmp_path / "copy.st")) == made.ledger.root
    with pytest.raises(OutputError, match="exists"):
        verbs.average(Request(inputs, "gs://bucket/soup.st"))
    there.failures = [TimeoutError()] * 5
    with pytest.raises(OutputError, match="the server does not answer in time, 5 times"):
        verbs.average(Request(inputs, "gs://bucket/other.st"))
    assert {*there.objects} == {"bucket/soup.st"}
    assert not [*(tmp_path / "spool").iterdir()]


def test_a_lost_answer_of_such_a_store_is_not_an_object_that_exists(
    inputs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = OneWayStore()
    monkeypatch.setattr(targets, "file_system", lambda _: there)
    monkeypatch.setattr(attempts, "WAIT", 0.001)
    there.lost = [TimeoutError()]
    verbs.average(Request(inputs, "gs://bucket/soup.st"))
    assert {*there.objects} == {"bucket/soup.st"}
    there.objects["bucket/other.st"] = b"of someone else"
    with pytest.raises(OutputError, match="exists"):
        verbs.average(Request(inputs, "gs://bucket/other.st"))
    there.lost = [TimeoutError()]
    verbs.average(Request(inputs, "gs://bucket/other.st"), force=True)
    assert there.objects["bucket/other.st"] == there.objects["bucket/soup.st"]


def test_an_object_that_another_command_wrote_meanwhile_is_not_taken_for_its_own(
    inputs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OvertakenStore(OneWayStore):
        def put_file(self, path: str, name: str, mode: str, metadata: dict[str, str]) -> None:
            super().put_file(path, name, mode, {upload.MARK: "another"})
            super().put_file(path, name, mode, metadata)

    there = OvertakenStore()
    monkeypatch.setattr(targets, "file_system", lambda _: there)
    with pytest.raises(OutputError, match="exists"):
        verbs.average(Request(inputs, "gs://bucket/soup.st"))


def test_a_server_that_sends_for_ever_is_given_up(
    store: ObjectStore, bucket: str, inputs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(bucket, "a.safetensors", inputs[0].read_bytes())
    monkeypatch.setattr(attempts, "LONGEST", 0.5)
    store.faults["get"].append("drip")
    with pytest.raises(InputError) as refusal:
        verbs.inspect(f"s3://{bucket}/a.safetensors")
    assert refusal.value.message() == (
        f"s3://{bucket}/a.safetensors: cannot be read: the server takes longer than 0.5 seconds"
        " (download it, and name the copy)"
    )
    store.faults["create"].append("drip")
    with pytest.raises(OutputError, match="the server takes longer than"):
        verbs.average(Request(inputs, f"s3://{bucket}/soup.st"))
    assert {*store.objects(bucket)} == {"a.safetensors"}


def test_only_single_files_become_objects(store: ObjectStore, inputs: list[Path]) -> None:
    for more, problem in (
        ({"shard_size": 100_000}, "is one object, and the soup is a folder of files"),
        ({"keep_sum": True}, "a kept sum needs a file as output"),
    ):
        with pytest.raises(UsageError, match=problem):
            verbs.average(Request(inputs, "s3://bucket/soup", **more))
