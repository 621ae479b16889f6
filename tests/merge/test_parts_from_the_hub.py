"""Parts of checkpoints on the hub: the bytes of a soup made at once, all from one commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback import Loopback, serving
from safetensors.numpy import save

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants

from soupctl import verbs
from soupctl.checkpoints.remote import attempts, mirror, read_ahead, web
from soupctl.checkpoints.remote.room import ROOM
from soupctl.errors import InputError, MismatchError, OutputError, UsageError
from soupctl.merge.parts.record import DIGEST_KEY, PART_KEY, text_digest
from soupctl.verbs import PartOfPlan, Request

BLOCK = 50_000
FIRST, SECOND = "1" * 40, "2" * 40
PLACES = ("hf://org/a", "hf://org/b@main")


def model(seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    return save({f"w{n}": draw.normal(0, 1, 100_000).astype(np.float16) for n in range(8)})


A, B = model(1), model(2)
OF_A = {"model.safetensors": A, "config.json": b"{}"}
OF_B = {"model.safetensors": B, "config.json": b"{}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Loopback]:
    """A hub with two repositories, and no file in its cache here."""
    with serving() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        url = state.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(attempts, "WAIT", 0.001)
        monkeypatch.setattr(read_ahead, "LARGEST_BLOCK", BLOCK)
        monkeypatch.setattr(read_ahead, "SMALLEST_BLOCK", BLOCK)
        # as many blocks as there are
        monkeypatch.setattr(ROOM, "size", ROOM.size // (4 << 20) * BLOCK)
        monkeypatch.chdir(tmp_path)
        state.commit("org/a", FIRST, OF_A)
        state.commit("org/b", FIRST, OF_B)
        yield state
        web.client().close()
        web.client.cache_clear()


@pytest.fixture
def as_another_process(monkeypatch: pytest.MonkeyPatch):
    """Forgets what this process has looked up, as another one would not know it."""

    def forget() -> None:
        monkeypatch.setattr(mirror, "_MIRRORED", {})

    forget()
    return forget


def request() -> Request:
    return Request(PLACES, "soup")


def part(number: int, count: int) -> Path:
    with verbs.open_part(request(), PartOfPlan(number, count)) as planned:
        return verbs.make_part(planned)


def join() -> None:
    with verbs.open_parted("soup") as parted:
        verbs.commit(parted)


def test_parts_make_the_bytes_of_a_soup_made_at_once(hub, as_another_process, tmp_path):
    verbs.average(Request(PLACES, "whole"))
    expected = {each.name: each.read_bytes() for each in Path("whole").iterdir()}
    sent = []
    for number in (3, 1, 2, 4):
        as_another_process()
        before = hub.sent
        if number == 2:
            # this process finds one of the files in the hub's cache
            cached = tmp_path / "hub" / "models--org--a"
            (cached / "refs").mkdir(parents=True)
            (cached / "refs/main").write_text(FIRST)
            (cached / "snapshots" / FIRST).mkdir(parents=True)
            (cached / "snapshots" / FIRST / "model.safetensors").write_bytes(A)
        part(number, 4)
        sent.append(hub.sent - before)
    as_another_process()
    before = hub.sent
    join()

    assert expected == {each.name: each.read_bytes() for each in Path("soup").iterdir()}
    headers = 2 * (16 << 10) + 100
    assert hub.sent - before < headers
    # all tensors once, and what is read ahead beyond those of a part, a few blocks of each file
    assert sum(sent) < len(A) + len(B) + 4 * (headers + 2 * 6 * BLOCK)
    # a quarter of one file
    assert sent[2] < len(B) / 4 + headers + 6 * BLOCK


@pytest.mark.parametrize("moved", ["while parts are made", "before they are joined"])
def test_parts_of_a_branch_that_moved_are_not_joined(hub, as_another_process, moved):
    part(1, 2)
    if moved == "before they are joined":
        as_another_process()
        part(2, 2)
    hub.commit("org/b", SECOND, OF_A)
    as_another_process()
    if moved == "while parts are made":
        part(2, 2)
    with pytest.raises((OutputError, MismatchError), match="part"):
        join()

    assert not Path("soup").exists()
    hub.commit("org/b", FIRST, OF_B)
    as_another_process()
    part(2, 2)
    join()
    assert Path("soup").exists()


def test_a_part_cannot_name_other_servers(hub, as_another_process):
    hub.files["bucket/a.safetensors"] = A
    for number in (1, 2):
        path = part(number, 2)
        raw = path.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        metadata = header["__metadata__"]
        address = f"{hub.url}/bucket/a.safetensors"
        metadata[PART_KEY] = metadata[PART_KEY].replace(PLACES[0], address)
        metadata[DIGEST_KEY] = text_digest(metadata[PART_KEY])
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    asked = len(hub.requests)

    with pytest.raises(InputError, match="was changed after it was made"):
        join()
    assert asked == len(hub.requests)


@pytest.mark.parametrize(
    ("names", "output"),
    [
        (("https://example.org/a.st?token=hidden", "a.st"), "soup.st"),
        (("s3://bucket/a.st", "a.st"), "soup.st"),
        (PLACES, "hf://org/soup"),
    ],
)
def test_other_addresses_are_refused_without_their_secrets(names, output):
    with (
        pytest.raises(UsageError, match="is an address") as caught,
        verbs.open_part(Request(names, output), PartOfPlan(1, 2)),
    ):
        pass
    assert "hidden" not in str(caught.value)
