"""The cache of ranges: bounded, never wrong, and there only for who asks.

Rule 1: that a soup is right is told by its digest, and what the server sent by its count of bytes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from loopback import Loopback
from processes import started
from remote_models import PLACES, SECOND, A, B, average, local_root, model

from soupctl.checkpoints.remote import mirror, range_cache
from soupctl.checkpoints.remote.address import address_of
from soupctl.checkpoints.remote.buckets import bucket_listing
from soupctl.checkpoints.remote.cached_file import with_cache
from soupctl.checkpoints.remote.range_cache import RangeCache, chosen_cache
from soupctl.errors import OutputError, UsageError
from soupctl.storage.lock import locked

Span = tuple[int, int]
BLOCK = range_cache.BLOCK
FILE = "a" * 64


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of a cache of a megabyte that the environment asks for."""
    monkeypatch.setenv("SOUPCTL_CACHE", f"{tmp_path / 'kept'}:1M")
    range_cache._opened.cache_clear()
    yield tmp_path / "kept" / "soupctl" / "servers"
    range_cache._opened.cache_clear()


@pytest.fixture
def again(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[str, int]]:
    """Makes the soup as a new command would; its digest, and the bytes that the server sent."""

    def make(kind: str) -> tuple[str, int]:
        monkeypatch.setattr(mirror, "_MIRRORED", {})
        range_cache._opened.cache_clear()
        (tmp_path / "soup.st").unlink(missing_ok=True)
        before = server.sent
        return average(server, kind, tmp_path), server.sent - before

    return make


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.glob("*/*"))


def on_disk(cache: Path) -> int:
    """The bytes of all ranges, also of one that is being written."""
    with locked([cache]):
        found = [*entries(cache), *cache.glob(range_cache.PARTIAL)]
        return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in found)


@pytest.mark.parametrize("kind", PLACES)
def test_what_was_read_is_not_sent_again(kind, cache, again, tmp_path) -> None:
    root = local_root(tmp_path)
    (first, sent), (second, sent_again) = again(kind), again(kind)
    assert first == second == root
    assert sent > 0.99 * (len(A) + len(B))
    # descriptions of repositories, listings, and a byte that tells the version
    assert sent_again < 5_000
    assert on_disk(cache) < 1 << 20


def test_nothing_is_kept_unless_asked_for(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("SOUPCTL_CACHE", raising=False)
    average(server, "web", tmp_path)
    assert not (tmp_path / "user").exists()
    monkeypatch.setenv("SOUPCTL_CACHE", "5MB")
    chosen = chosen_cache()
    assert chosen is not None
    assert (tmp_path / "user" / "soupctl" / "servers").is_dir()


@pytest.mark.parametrize("how", ["bit", "short", "long", "moved", "link", "fifo"])
def test_a_damaged_range_is_read_again(how, cache, again, tmp_path) -> None:
    root, sent = again("hub")
    damage(how, cache, tmp_path / "copy")
    assert again("hub")[0] == root == local_root(tmp_path)
    assert again("hub")[1] < 5_000 < sent


def damage(how: str, cache: Path, copy: Path) -> None:
    """Damage all ranges; there are as many of one model as of the other, in equal places."""
    copytree(cache, copy)
    one, other = [folder for folder in copy.iterdir() if len([*folder.glob("*-*")]) > 2]
    for path in entries(cache):
        data = path.read_bytes()
        path.unlink()
        if how == "bit":
            at = len(data) // 2
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        elif how in ("short", "long"):
            path.write_bytes(data[:-1] if how == "short" else data + b"0")
        elif how == "link":
            path.symlink_to(copy / path.parent.name / path.name)
        elif how == "fifo":
            os.mkfifo(path)
        elif path.parent.name in (one.name, other.name):
            away = other if path.parent.name == one.name else one
            swapped = away / path.name
            path.write_bytes(swapped.read_bytes() if swapped.exists() else b"")


@pytest.mark.parametrize("kind", ["web", "s3", "hub"])
def test_another_version_is_another_file(kind, cache, again, server, tmp_path) -> None:
    old, _ = again(kind)
    for name, data in (("a", model(3)), ("b", model(4))):
        server.files[f"bucket/{name}.safetensors"] = data
        server.commit(f"org/{name}", SECOND, {f"{name}.safetensors": data, "config.json": b"{}"})
    new, sent = again(kind)
    assert new != old
    assert sent > len(A)


def test_what_a_bucket_sends_of_another_version_is_not_kept(store, bucket, tmp_path) -> None:
    cache = RangeCache(tmp_path, 10 * BLOCK)
    store.backend.put_bucket_versioning(bucket, "Enabled")
    store.put(bucket, "a", b"1234")
    address = address_of(f"s3://{bucket}/a")
    assert address is not None
    stored = bucket_listing(address).files[""]
    store.put(bucket, "a", b"5678")
    with pytest.raises(OutputError, match="changed while it was read"):
        with_cache(stored, cache).read(0, 4)
    assert not entries(tmp_path)
    newest = store.backend.buckets[bucket].keys["a"].version_id
    store.backend.delete_object(bucket, "a", version_id=newest)
    assert with_cache(stored, cache).read(0, 4) == b"1234"
    store.clear()
    assert with_cache(stored, cache).read(0, 4) == b"1234"
    assert not store.requests
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("tag", ['W/"1"', ""])
def test_a_version_that_names_no_bytes_is_not_kept(tag, cache, again, server, tmp_path) -> None:
    server.lies["ETag"] = tag
    root, sent = again("web")
    assert root == local_root(tmp_path)
    # but for the bytes that tell the version, which are asked for as often as threads begin
    assert again("web")[1] > 0.99 * sent
    assert not entries(cache)


def test_the_query_of_an_address_is_of_its_name_and_no_secret_is_kept(
    cache, again, server, tmp_path
) -> None:
    again("web")
    names = {path.parent.name for path in entries(cache)}
    assert len(names) == 2
    assert all("hidden" not in str(path) for path in cache.rglob("*"))


def test_a_cache_without_room_keeps_the_beginning_and_the_soup_is_right(
    cache, again, monkeypatch, tmp_path
) -> None:
    root = local_root(tmp_path)
    monkeypatch.setenv("SOUPCTL_CACHE", f"{cache.parents[1]}:100kB")
    first, sent = again("hub")
    assert 50_000 < on_disk(cache) <= 100_000
    second, sent_again = again("hub")
    assert first == second == root
    # it does not push out what the next one can use
    assert sent_again < 0.9 * sent


def test_ranges_used_least_recently_make_room(tmp_path) -> None:
    cache = RangeCache(tmp_path / "kept", 10 * BLOCK)
    for n in range(10):
        assert cache.put(FILE, (n, n + 100), bytes([n]) * 100)
    old = time.time() - 1000
    for n in range(10):
        os.utime(tmp_path / "kept" / FILE / f"{n}-{n + 100}", (old + n, old + n))
    assert cache.get(FILE, (0, 100)) == bytes(100)
    assert cache.put(FILE, (50, 150), bytes(100))
    left = {start for start, _ in cache.spans(FILE)}
    # a sixteenth more than what is needed is freed
    assert left == {0, *range(3, 10), 50}
    assert on_disk(tmp_path / "kept") <= 10 * BLOCK
    assert not RangeCache(tmp_path / "kept", 3 * BLOCK).put(FILE, (0, 4 * BLOCK), bytes(4 * BLOCK))
    assert on_disk(tmp_path / "kept") <= 3 * BLOCK


def test_a_range_that_is_used_while_room_is_made_is_not_the_first_to_go(
    tmp_path, monkeypatch
) -> None:
    cache = RangeCache(tmp_path, 4 * BLOCK)
    for n in range(4):
        cache.put(FILE, (n, n + 1), b"x")
        os.utime(tmp_path / FILE / f"{n}-{n + 1}", (n + 1, n + 1))
    look = Path.lstat

    def use_and_look(path: Path) -> os.stat_result:
        if path.name == "3-4":
            # the clock of a file system goes in steps
            time.sleep(0.05)
            cache.get(FILE, (3, 4))
        return look(path)

    monkeypatch.setattr(Path, "lstat", use_and_look)
    assert cache.put(FILE, (9, 10), b"x")
    assert (3, 4) in cache.spans(FILE)


def test_nothing_else_in_a_chosen_folder_is_touched(tmp_path) -> None:
    others = [tmp_path / "a.st", tmp_path / "sub" / "0-1", tmp_path / FILE / "notes"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    cache = RangeCache(tmp_path, 2 * BLOCK)
    for n in range(5):
        cache.put(FILE, (n, n + 1), b"x")
    assert all(path.read_bytes() == b"mine" for path in others)


def test_a_full_disk_or_a_lost_folder_costs_only_the_cache(
    cache, again, monkeypatch, tmp_path
) -> None:
    root = local_root(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RangeCache, "_write", refuse)
        assert again("hub")[0] == root
    assert again("hub")[0] == root
    opened = chosen_cache()
    assert opened is not None
    rmtree(cache)
    assert opened.spans(FILE) == []
    assert opened.get(FILE, (0, 1)) is None
    assert not opened.put(FILE, (0, 1), b"x")
    assert again("hub")[0] == root


def test_a_process_that_keeps_the_lock_costs_a_moment(tmp_path, monkeypatch) -> None:
    waits: list[float] = []

    def waiting(folders: list[Path], longest: float) -> AbstractContextManager[None]:
        waits.append(longest)
        return locked(folders, longest)

    monkeypatch.setattr(range_cache, "locked", waiting)
    with locked([tmp_path]):
        cache = RangeCache(tmp_path, 100 * BLOCK)
        kept = [cache.put(FILE, (n, n + 1), b"x") for n in range(50)]
    # when it is opened, and for the first range
    assert waits == [range_cache.LONGEST_WAIT] * 2
    assert not any(kept)
    assert RangeCache(tmp_path, 100 * BLOCK).put(FILE, (0, 1), b"x")


@pytest.mark.parametrize("text", ["x", "/tmp/x", "0", ":", "/tmp/x:", "/tmp/x:-1", "-5GB"])
def test_a_bound_that_is_none_is_refused(text, monkeypatch) -> None:
    monkeypatch.setenv("SOUPCTL_CACHE", text)
    with pytest.raises(UsageError, match="SOUPCTL_CACHE"):
        chosen_cache()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SOUPCTL_CACHE", f"{tmp_path / 'file'}:1G")
    with pytest.raises(OutputError, match="file"):
        chosen_cache()


@pytest.mark.parametrize("mode", [0o702, 0o770, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(mode, tmp_path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(OutputError, match="kept: may be written to by other users"):
        RangeCache(folder, BLOCK)
    folder.chmod(0o755)
    RangeCache(folder, BLOCK)


def test_threads_and_a_lying_count_never_exceed_the_bound(tmp_path) -> None:
    most = 20 * BLOCK
    cache = RangeCache(tmp_path, most)
    cache._begun += 10**15

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(60):
            span = (start := draw.randrange(50), start + draw.choice([10, 5_000, 20_000]))
            data = bytes([span[0]]) * (span[1] - span[0])
            found = cache.get(FILE, span)
            assert found in (None, data)
            if found is None:
                cache.put(FILE, span, data)
            if draw.random() < 0.1:
                (tmp_path / range_cache.TOTAL).write_bytes(draw.choice([b"", b"x", b"9" * 20]))
            assert on_disk(tmp_path) <= most

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


WRITER = """
import sys
from pathlib import Path
from soupctl.checkpoints.remote.range_cache import RangeCache
cache = RangeCache(Path(sys.argv[1]), int(sys.argv[2]))
cache._begun += 10**15
for n in range(10**6):
    span = (n % 97, n % 97 + 9_000)
    cache.put("a" * 64, span, bytes([n % 97]) * 9_000)
    if n == 0:
        print("ready", flush=True)
"""


def test_killed_processes_leave_a_cache_that_is_right_and_within_its_bound(tmp_path) -> None:
    most = 100 * BLOCK
    command = (sys.executable, "-c", WRITER, str(tmp_path), str(most))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with (
        started(*command, stdout=subprocess.PIPE, env=environment) as one,
        started(*command, stdout=subprocess.PIPE, env=environment) as other,
    ):
        for process in (one, other):
            assert process.stdout.readline() == b"ready\n"
        for pause, process in ((0.2, one), (0.1, other)):
            end = time.monotonic() + pause
            while time.monotonic() < end:
                assert on_disk(tmp_path) <= most
            process.send_signal(signal.SIGKILL)
            process.wait()
    cache = RangeCache(tmp_path, most)
    spans = cache.spans(FILE)
    assert spans
    assert all(cache.get(FILE, (a, b)) == bytes([a]) * 9_000 for a, b in spans)
    assert cache.put(FILE, (200, 201), b"x")
    assert on_disk(tmp_path) <= most
