"""Answers of servers that are not what was asked for: one clear line, and no soup."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from loopback import Loopback
from remote_models import FIRST, A, average, places

from soupctl import verbs
from soupctl.checkpoints.remote import attempts, mirror, web
from soupctl.errors import InputError, UsageError


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


@pytest.mark.parametrize("kind", ["web", "hub"])
def test_a_server_that_sends_for_too_long_is_given_up(
    kind: str, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "LONGEST", 0.005)
    server.faults.append("slow")
    with pytest.raises(InputError) as refusal:
        verbs.inspect(places(server, kind)[0])
    assert refusal.value.message().endswith(
        "a.safetensors: cannot be read: the server takes longer than 0.005 seconds"
        " (download it, and name the copy)"
    )


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


@pytest.mark.parametrize("told", ["200 Content-Length: 0", "416 Content-Range: bytes */0"])
def test_an_answer_tells_that_a_file_is_empty(told: str) -> None:
    status, _, header = told.partition(" ")
    name, _, value = header.partition(": ")
    answer = httpx2.Response(int(status), headers={name: value})
    assert web._is_empty(answer)
    assert not web._is_empty(httpx2.Response(206, headers={"Content-Range": "bytes 0-0/1"}))


def test_empty_files_are_empty_on_any_server(server: Loopback) -> None:
    server.files["bucket/empty.st"] = b""
    server.commit("org/empty", FIRST, {"empty.st": b""})
    web_address = f"{server.url}/bucket/empty.st"
    for address in ("s3://bucket/empty.st", "hf://org/empty/empty.st", web_address):
        with pytest.raises(InputError) as refusal:
            verbs.inspect(address)
        assert refusal.value.message() == f"{address}: is empty"
