"""Files that the hub sends from another server, and servers that allow no more requests."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from loopback import Loopback, serving
from remote_models import FIRST, A, average, local_root, model

from soupctl.checkpoints.remote import waits
from soupctl.checkpoints.remote.read_ahead import AT_ONCE, _pool
from soupctl.checkpoints.remote.room import ROOM
from soupctl.errors import InputError, OutputError

IN_300_DAYS = "Retry-After: a date in 300 days"


@pytest.fixture
def store(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """The server that the hub leads to."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving() as store:
        store.files, server.leads_to = server.files, store.url
        yield store


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that servers ask for, none of which takes time."""
    seen: list[float] = []
    monkeypatch.setattr(waits, "pause", seen.append)
    monkeypatch.setattr(waits, "_TOLD_UNTIL", [0.0])
    return seen


def resolved(server: Loopback) -> int:
    return sum("/resolve/" in each for each in server.requests)


def refusal_of(server: Loopback, tmp_path: Path) -> InputError | OutputError:
    """The error that an average ends with, which says nothing secret, and leaves nothing."""
    with pytest.raises((InputError, OutputError)) as refusal:
        average(server, "hub", tmp_path)
    message = refusal.value.message()
    assert "\n" not in message
    assert not [word for word in ("hidden", "signature", "secret", "127.0.0.1") if word in message]
    assert not [*tmp_path.glob("soup*")]
    return refusal.value


def test_the_hub_is_asked_once_for_each_file(
    server: Loopback, store: Loopback, tmp_path: Path
) -> None:
    root = local_root(tmp_path)
    assert average(server, "hub", tmp_path) == root
    assert resolved(server) == 2
    assert len(store.requests) > 12
    sent = [{name.lower(): value for name, value in each.items()} for each in server.headers]
    assert sent[-1]["authorization"] == "Bearer hf_secret"
    kept = [{name.lower() for name in headers} for headers in store.headers]
    assert not [names for names in kept if names & {"authorization", "cookie"}]
    soup = (tmp_path / "soup.st").read_bytes()
    assert b"hidden" not in soup
    assert b"secret" not in soup


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_address_that_expires_is_asked_for_again(
    status: int, server: Loopback, store: Loopback, tmp_path: Path
) -> None:
    root, seen = local_root(tmp_path), []

    def expire(path: str) -> None:
        seen.append(path)
        if len(seen) in (6, 10):
            store.expires.append(status)

    store.on_range = expire
    assert average(server, "hub", tmp_path) == root
    assert not store.expires
    # other requests of that moment may ask, too
    assert 2 + 2 <= resolved(server) <= 2 + 2 * AT_ONCE


def test_addresses_that_are_always_refused_are_asked_for_once_more(
    server: Loopback, store: Loopback, tmp_path: Path
) -> None:
    seen = []

    def expire(path: str) -> None:
        seen.append(path)
        if len(seen) == 6:
            store.expires.extend([403] * 1000)

    store.on_range = expire
    assert "cannot be read: access is refused" in refusal_of(server, tmp_path).message()
    assert resolved(server) <= 2 + 2 * AT_ONCE


def test_another_attempt_asks_the_hub(server: Loopback, store: Loopback, tmp_path: Path) -> None:
    root = local_root(tmp_path)
    store.faults.extend(["500", "cut", "500"])
    assert average(server, "hub", tmp_path) == root
    assert not store.faults
    assert resolved(server) > 2


@pytest.mark.parametrize("shorter", [False, True])
def test_content_that_changes_behind_an_address_is_an_error(
    shorter: bool, server: Loopback, store: Loopback, tmp_path: Path
) -> None:
    seen = []

    def replace(path: str) -> None:
        seen.append(path)
        if len(seen) == 6:
            store.files = {
                **server.files,
                f"org/a@{FIRST}/a.safetensors": A[:5000] if shorter else model(3),
            }

    store.on_range = replace
    error = refusal_of(server, tmp_path)
    assert error.message() == "hf://org/a/a.safetensors: changed while it was read"
    assert error.exit_code == 6


@pytest.mark.parametrize("names_content", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_a_new_address_has_to_lead_to_the_same_content(
    names_content: bool, same: bool, server: Loopback, store: Loopback, tmp_path: Path
) -> None:
    root, seen = local_root(tmp_path), []
    server.names_content = names_content
    with serving() as other:
        other.files = store.files
        # a store names versions in its own way, which only the hub can say the content of
        other.etags = "other-" if names_content else ""

        def move(path: str) -> None:
            seen.append(path)
            if len(seen) == 6:
                if not same:
                    changed = {f"org/{n}@{FIRST}/{n}.safetensors": model(3) for n in "ab"}
                    server.files = other.files = {**server.files, **changed}
                server.leads_to = other.url
                store.expires.extend([403] * 1000)

        store.on_range = move
        if same:
            assert average(server, "hub", tmp_path) == root
            assert other.requests
        else:
            assert "changed while it was read" in refusal_of(server, tmp_path).message()


@pytest.mark.parametrize("place", ["http://example.org", "//example.org", "HTTP://example.org:80"])
def test_the_hub_leads_to_no_address_that_is_not_encrypted(
    place: str, server: Loopback, tmp_path: Path
) -> None:
    server.leads_to = place
    error = refusal_of(server, tmp_path)
    assert "it leads to an address that is not encrypted" in error.message()
    assert "example.org" not in error.message()


@pytest.mark.parametrize(
    "header",
    [
        "Retry-After: 55",
        'RateLimit: "resolvers";r=0;t=55',
        'RateLimit: "api"; r=3; t=200, "resolvers"; r=0; t=55',
    ],
)
def test_a_limit_is_waited_for_as_long_as_the_server_says(
    header: str,
    told: list[float],
    server: Loopback,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = local_root(tmp_path)
    server.hub_faults.append(f"429 {header}")
    server.faults.extend([f"429 {header}"] * 3)
    assert average(server, "hub", tmp_path) == root
    assert len(told) == 4
    assert all(55 <= seconds <= 56 for seconds in told)
    # one line for all that wait at that time
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "soupctl: hf://org/a/a.safetensors: the server allows no requests for 55 s: waiting"
    )


@pytest.mark.parametrize(
    "header",
    [
        "Retry-After: soon",
        "Retry-After: -5",
        f"Retry-After: {'9' * 5000}",
        'RateLimit: "resolvers";r=12;t=55',
        'RateLimit: "resolvers";r=0',
        "RateLimit: r=0;t=x",
        "X-Other: 5",
    ],
)
def test_a_limit_without_a_time_is_a_fault_that_passes(
    header: str, told: list[float], server: Loopback, tmp_path: Path
) -> None:
    root = local_root(tmp_path)
    server.faults.append(f"429 {header}")
    assert average(server, "hub", tmp_path) == root
    assert not told


@pytest.mark.parametrize(
    ("header", "problem", "longest"),
    [
        ("Retry-After: 1", "the server answers 429, 5 times (try again later)", 2),
        ("Retry-After: 200", "the server allows no requests for 200 s (try again later)", 201),
        ("Retry-After: 100000", "the server allows no requests for 100000 s (try again", 0),
        (IN_300_DAYS, "the server allows no requests for 25", 0),
    ],
)
@pytest.mark.parametrize("leads", [True, False])
def test_a_limit_that_does_not_end_is_one_line(
    header: str,
    problem: str,
    longest: float,
    leads: bool,
    told: list[float],
    server: Loopback,
    store: Loopback,
    tmp_path: Path,
) -> None:
    if header == IN_300_DAYS:
        header = f"Retry-After: {format_datetime(datetime.now(UTC) + timedelta(days=300))}"
    if leads:
        server.hub_faults.extend([f"429 {header}"] * 1000)
    else:
        store.faults.extend([f"429 {header}"] * 1000)
    assert f"cannot be read: {problem}" in refusal_of(server, tmp_path).message()
    assert max(told, default=0) <= longest


def test_interruptions_end_a_wait(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, seen = threading.main_thread().ident, []
    assert main is not None
    monkeypatch.setattr(waits, "LONG", 1000.0)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupt(path: str) -> None:
        seen.append(path)
        if len(seen) == 8:
            server.faults.extend(["429 Retry-After: 500"] * 1000)
        if len(seen) == 10:
            signal.pthread_kill(main, signal.SIGUSR1)

    server.on_range = interrupt
    handler = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            average(server, "hub", tmp_path)
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert not [*tmp_path.iterdir()]
    assert ROOM.held == 0
    # threads that waited have ended, or are about to
    for thread in threading.enumerate():
        if thread.name.startswith("soupctl_"):
            thread.join(60)
            assert not thread.is_alive()
    # so have those that read ahead, each of which can do something else now
    free = threading.Barrier(AT_ONCE)
    for done in [_pool().submit(free.wait, 60) for _ in range(AT_ONCE)]:
        done.result(60)
