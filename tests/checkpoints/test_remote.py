"""Checkpoints on servers: the same soups, no more bytes than needed, and one clear line for faults.

Rule 1: the server is on loopback, and its faults befall the reads that the test names.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import fsspec
import httpx2
import numpy as np
import pytest
from huggingface_hub import constants
from loopback import Loopback, serving
from making import files, save_pipeline
from safetensors.numpy import save

from soupctl import verbs
from soupctl.checkpoints.remote import attempts, mirror, read_ahead, web
from soupctl.cli.main import SIGNALS, main
from soupctl.cli.options import split_weight
from soupctl.errors import InputError, LimitError, OutputError, SoupError, UsageError
from soupctl.verbs import Request, Revision

FIRST, SECOND = "1" * 40, "2" * 40
PLACES = ("web", "s3", "hub")


def model(seed: int, tensors: int = 30) -> bytes:
    """A checkpoint whose tensors are in one order by name, and in another by place."""
    random = np.random.default_rng(seed)
    arrays = {
        f"block.{n}.weight": random.standard_normal(2000 + n).astype(np.float16)
        for n in range(tensors)
    }
    arrays |= {f"block.{n}.bias": np.float32([seed, n]) for n in range(tensors)}
    return save(arrays)


A, B = model(1), model(2)


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


def places(server: Loopback, kind: str) -> list[str]:
    if kind == "web":
        return [f"{server.url}/bucket/{name}.safetensors?token=hidden" for name in "ab"]
    start = "s3://bucket/{}" if kind == "s3" else "hf://org/{0}/{0}"
    return [start.format(name) + ".safetensors" for name in "ab"]


def local_root(tmp_path: Path) -> str:
    """The digest of the soup of the same checkpoints on disk."""
    for name, data in (("a", A), ("b", B)):
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    (made,) = verbs.average(
        Request([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "local.st")
    )
    return made.ledger.root


def test_the_hub_is_not_asked_where_it_is_switched_off(server, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(InputError, match=r"a\.safetensors: cannot be read: HF_HUB_OFFLINE is set"):
        verbs.average(Request(places(server, "hub"), tmp_path / "soup.st"))


def average(server: Loopback, kind: str, tmp_path: Path) -> str:
    (made,) = verbs.average(Request(places(server, kind), tmp_path / "soup.st"))
    return made.ledger.root


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


def test_moved_branch_is_read_at_the_commit_that_it_had(server: Loopback, tmp_path: Path) -> None:
    root = local_root(tmp_path)
    server.on_range = lambda _: server.commit("org/a", SECOND, {"a.safetensors": model(3)})
    assert average(server, "hub", tmp_path) == root
    ledger = verbs.average(Request([tmp_path / "soup.st"], tmp_path / "again.st"))[0].ledger
    (inner,) = ledger.ancestors.values()
    assert {each.hint for each in inner.ingredients} == {
        f"hf://org/{name}@{FIRST}/{name}.safetensors" for name in "ab"
    }


def test_soup_is_rebuilt_and_changed_from_the_hub(server: Loopback, tmp_path: Path) -> None:
    average(server, "hub", tmp_path)
    (proof,) = verbs.verify(tmp_path / "soup.st", level=verbs.Level.REBUILD)
    assert proof.level is verbs.Level.REBUILD
    last = places(server, "hub")[1]
    less = tmp_path / "less.st"
    (made,) = verbs.revise(Revision("subtract", tmp_path / "soup.st", less, removed=[last]))
    (kept,) = made.ledger.ingredients
    assert (kept.name, kept.hint) == ("a.safetensors", f"hf://org/a@{FIRST}/a.safetensors")
    (alone,) = verbs.average(Request(places(server, "hub")[:1], tmp_path / "alone.st"))
    assert made.ledger.root == alone.ledger.root


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


def test_gated_and_absent_places_are_one_line(server: Loopback, tmp_path: Path) -> None:
    server.gated.add("org/b")
    for address, problem in (
        ("hf://org/b", "cannot be read: access is refused (log in with the tools of its library"),
        ("hf://org/none", "cannot be read: there is no such file"),
        ("hf://org/a@gone", "cannot be read: there is no such file"),
        ("hf://org/a/none", "cannot be read: there is no such file"),
        ("s3://bucket/none", "cannot be read: there is no such file"),
        (f"{server.url}/none.st", "cannot be read: there is no such file"),
    ):
        with pytest.raises(InputError) as refusal:
            verbs.average(Request([address, "s3://bucket/a.safetensors"], tmp_path / "soup.st"))
        assert refusal.value.message().startswith(f"{address}: {problem}")
    assert not [*tmp_path.iterdir()]


def test_addresses_that_cannot_be_are_refused(server: Loopback, tmp_path: Path) -> None:
    for address, problem in (
        ("hf://alone", "is not hf://OWNER/NAME[@REVISION][/PLACE]"),
        ("http://example.org/a.st", "http:// is not encrypted (https:// is)"),
    ):
        with pytest.raises(UsageError) as refusal:
            verbs.average(Request([address, tmp_path / "b.st"], tmp_path / "soup.st"))
        assert refusal.value.message() == f"{address}: {problem}"


def test_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for scheme, package in (("hf", "huggingface_hub"), ("s3", "s3fs"), ("gs", "gcsfs")):
        with pytest.raises(LimitError) as refusal:
            verbs.inspect(f"{scheme}://org/name")
        assert refusal.value.message() == (
            f"{scheme}:// needs a package that is not installed: {package}"
            " (pip install 'soupctl[remote]')"
        )


def header_of(answer: str) -> dict[str, str]:
    """What the server says instead of the truth, by header."""
    name, _, value = answer.partition(": ")
    return {name: value}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Content-Range: bytes 0-99/{size}", "sent other bytes than were asked for, 5 times"),
        ("Content-Range: ", "the server sends no parts of files (download it, and name the copy)"),
        ("Content-Range: bytes {range}/*", "the server sends no parts of files"),
        (f"Content-Range: bytes {{range}}/{'9' * 5000}", "the server sends no parts of files"),
        (f"Content-Range: bytes {{range}}/{2**62}", "the server sends no parts of files"),
        ("Content-Encoding: gzip", "the server sends encoded parts of files"),
    ],
)
def test_answers_with_other_bytes_than_were_asked_for_are_refused(
    answer: str, problem: str, server: Loopback, tmp_path: Path
) -> None:
    server.lies = header_of(answer)
    with pytest.raises(InputError) as refusal:
        average(server, "web", tmp_path)
    message = refusal.value.message()
    assert problem in message
    assert "hidden" not in message
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("place", ["http://example.org/a", "HTTP://127.0.0.1/a"])
def test_encrypted_addresses_lead_to_no_others(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(302, headers={"location": place})

    hooks = {"response": [web.require_safe]}
    transport = httpx2.MockTransport(answer)
    client = httpx2.Client(follow_redirects=True, transport=transport, event_hooks=hooks)
    monkeypatch.setattr(web, "client", lambda: client)
    monkeypatch.setattr(mirror, "_MIRRORED", {})
    with pytest.raises(InputError) as refusal:
        verbs.inspect("https://example.org/a.safetensors?token=hidden")
    assert refusal.value.message() == (
        "https://example.org/a.safetensors: cannot be read:"
        " it leads to an address that is not encrypted (download it, and name the copy)"
    )
    assert len(seen) == 1


@pytest.mark.parametrize(
    "address",
    [
        "https://[",
        "https://me:hidden@[/",
        "https://",
        "https:///",
        "s3://",
        "hf:///",
        "https://127.0.0.1:port/a.st?token=hidden",
        "http://127.0.0.1:9/a\nb?token=hidden",
        f"https://{'a' * 64}.org/a.st?token=hidden",
    ],
)
def test_malformed_addresses_are_one_line(address: str) -> None:
    with pytest.raises(UsageError) as refusal:
        verbs.inspect(address)
    message = refusal.value.message()
    assert message.startswith(address[:5])
    assert message.endswith(("is not the address of a file or folder", "is not a valid address"))
    assert "hidden" not in message


def test_absent_credentials_are_told(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError) as refusal:
        verbs.inspect("s3://bucket/a.safetensors")
    assert refusal.value.message() == (
        "s3://bucket/a.safetensors: cannot be read: no credentials are found"
        " (log in with the tools of its library)"
    )


@pytest.mark.parametrize(
    "lie",
    [
        {"sha": None},
        {"sha": "../../x"},
        {"siblings": "x"},
        {"siblings": [{}]},
        {"siblings": [{"rfilename": "../../x.safetensors", "size": 4}]},
        {"siblings": [{"rfilename": "\ud800.safetensors", "size": 4}]},
        {"siblings": [{"rfilename": "a.safetensors", "size": -4}]},
        {"siblings": [{"rfilename": "a.safetensors", "size": 10**30}]},
        {"siblings": [{"rfilename": 5, "size": 4}]},
    ],
)
def test_malformed_answers_of_the_hub_are_one_line(
    lie: dict[str, object], server: Loopback
) -> None:
    server.repository_lies = lie
    with pytest.raises(InputError) as refusal:
        verbs.inspect("hf://org/a")
    assert refusal.value.message() == (
        "hf://org/a: cannot be read: the hub's answer is malformed (download it, and name the copy)"
    )
    with pytest.raises(UsageError, match="is not the name of a repository"):
        verbs.inspect("hf://o rg/a")


@pytest.mark.parametrize("size", ["x", "", "-5", "9" * 30, "9" * 5000])
def test_malformed_listings_of_buckets_are_one_line(size: str, server: Loopback) -> None:
    server.listed_size = size
    server.files["bucket/all/a.safetensors"] = A
    with pytest.raises(InputError) as refusal:
        verbs.inspect("s3://bucket/all")
    assert refusal.value.message() == (
        "s3://bucket/all: cannot be read: the server's answer is malformed"
        " (download it, and name the copy)"
    )


def test_an_index_cannot_name_other_hosts_or_questions(server: Loopback, tmp_path: Path) -> None:
    names = ["http://example.org/s.safetensors", "@x/s.safetensors", "s.safetensors?y#z"]
    for name in names:
        index = {"weight_map": {"w": name}}
        server.files["bucket/m.safetensors.index.json"] = json.dumps(index).encode()
        server.requests.clear()
        mirror._MIRRORED.clear()
        with pytest.raises(InputError, match="there is no such file"):
            verbs.inspect(f"{server.url}/bucket/m.safetensors.index.json?token=hidden")
        assert server.requests[-1].startswith("GET bucket/")
        assert "s.safetensors" in server.requests[-1]
    assert "s.safetensors?y#z" in server.requests[-1]


def test_outputs_on_the_terminal_hold_no_secrets(
    server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = places(server, "web")[0].replace("http://", "http://me:hidden@")
    for words in (["inspect", secret, "--json"], ["verify", secret, "--json"], ["hash", secret]):
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        with pytest.raises(SystemExit):
            main(words)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        told = capsys.readouterr()
        assert "bucket/a.safetensors" in told.out
        assert "hidden" not in told.out + told.err


def test_what_needs_a_copy_on_disk_says_so(server: Loopback, tmp_path: Path) -> None:
    with pytest.raises(SoupError) as refusal:
        verbs.file_sha256(places(server, "web")[0])
    assert refusal.value.message() == (
        f"{server.url}/bucket/a.safetensors: is not on this disk, where alone it can be used for"
        " this (download it, and name the copy)"
    )


def test_output_at_an_address_is_refused(server: Loopback, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        verbs.average(Request(places(server, "web"), f"{server.url}/soup.st?token=hidden"))
    assert refusal.value.message() == (
        f"{server.url}/soup.st: is on a web server, and soups are written to files and buckets"
        " (make a file, and upload it)"
    )


def test_pipelines_are_rebuilt_from_the_hub(server: Loopback, tmp_path: Path) -> None:
    for seed, name in enumerate(("p", "q")):
        save_pipeline(tmp_path / name, seed)
        server.commit(f"org/{name}", FIRST, files(tmp_path / name))
    verbs.average(Request(["hf://org/p", "hf://org/q"], tmp_path / "soup"))
    proven = verbs.verify(tmp_path / "soup", level=verbs.Level.REBUILD)
    assert [each.level for each in proven] == [verbs.Level.REBUILD] * 3
    hints = {entry.hint for each in proven for entry in each.ledger.ingredients}
    assert f"hf://org/q@{FIRST}/vae" in hints


def test_only_the_hub_is_asked_because_a_ledger_says_so(server: Loopback, tmp_path: Path) -> None:
    average(server, "web", tmp_path)
    server.requests.clear()
    (proof,) = verbs.verify(tmp_path / "soup.st")
    assert proof.level is verbs.Level.DIGEST
    assert not server.requests
    (proof,) = verbs.verify(tmp_path / "soup.st", places(server, "web"))
    assert proof.level is verbs.Level.REBUILD


def test_blocks_follow_the_file_where_few_are_begun_at_one_time() -> None:
    together = [(0, 10), (100, 150), (10, 20), (150, 200)]
    assert read_ahead.blocks(together, 60) == [(0, 20), (100, 160), (160, 200)]
    scattered = [(start * 37 % 100 * 10, start * 37 % 100 * 10 + 10) for start in range(100)]
    assert read_ahead.blocks(scattered, 50) == scattered
    assert read_ahead.blocks([(0, 0), (0, 130)], 60) == [(0, 60), (60, 120), (120, 130)]


def test_reads_in_any_order_are_right(server: Loopback) -> None:
    class BytesElsewhere:
        """Bytes of a file."""

        address, size = "held", 1000
        hint = address
        asked = 0

        def read(self, start: int, stop: int) -> bytes:
            self.asked += stop - start
            return bytes(place % 251 for place in range(start, stop))

        def is_unchanged(self) -> bool:
            return True

    held = BytesElsewhere()
    reader = read_ahead.RangeReader(held, [(0, 1000)])
    for start in (900, 0, 500, 0):
        buffer = bytearray(100)
        reader.read_into(memoryview(buffer), start)
        assert buffer == bytes(place % 251 for place in range(start, start + 100))
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_into(memoryview(buffer), 0)


def test_weights_and_revisions_are_told_apart(server: Loopback, tmp_path: Path) -> None:
    assert split_weight("hf://org/a@main@0.5") == ("hf://org/a@main", Fraction(1, 2))
    assert split_weight("hf://org/a@main") == ("hf://org/a@main", None)
