"""Soups pushed to the hub: all files in one commit, or one clear line and nothing there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import lead_hub_to
from loopback import Loopback, serving
from making import save_pipeline
from run_here import run_here
from safetensors.numpy import save_file

from soupctl import verbs
from soupctl.errors import LedgerError, OutputError, SoupError, UsageError
from soupctl.proof import push as verbs_push
from soupctl.verbs import PushRequest, Request

FIRST = "1" * 40
FULL = "access where it is gated)"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Loopback]:
    with serving() as state:
        lead_hub_to(state, monkeypatch, tmp_path / "hub")
        state.commit("me/soup", FIRST, {".gitattributes": b""})
        yield state


@pytest.fixture
def soup(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        save_file({"w": np.arange(50_000, dtype=np.float32) + seed}, tmp_path / f"{name}.st")
    output = tmp_path / "soup.safetensors"
    verbs.average(Request([tmp_path / "a.st", tmp_path / "b.st"], output))
    return output


def there(hub: Loopback, branch: str = "main") -> dict[str, bytes]:
    """The files of the repository."""
    start = f"me/soup@{hub.branches[f'me/soup@{branch}']}/"
    return {k.removeprefix(start): v for k, v in hub.files.items() if k.startswith(start)}


def test_a_soup_is_pushed_with_its_card_and_read_from_there(
    hub: Loopback, soup: Path, tmp_path: Path
) -> None:
    made = verbs.push(PushRequest(soup, "hf://me/soup"))
    assert made.address == f"hf://me/soup@{hub.branches['me/soup@main']}"
    assert made.files == ("README.md", "soup.safetensors")
    assert made.size == sum(len(there(hub)[name]) for name in made.files)
    found = there(hub)
    assert found["soup.safetensors"] == soup.read_bytes()
    card = found["README.md"].decode()
    assert "# soup" in card
    assert "| a.st | 1 | 1/2 |" in card
    assert [each["summary"] for each in hub.commits] == ["Add the soup soup.safetensors"]
    (proof,) = verbs.verify(made.address, [tmp_path / "a.st", tmp_path / "b.st"])
    assert proof.level is verbs.Level.REBUILD
    assert ".gitattributes" in found


def test_the_card_of_a_pushed_soup_names_repositories_as_its_bases(
    hub: Loopback, soup: Path, tmp_path: Path
) -> None:
    hub.commit("me/a", FIRST, {"x/model.safetensors": (tmp_path / "a.st").read_bytes()})
    again = tmp_path / "again.safetensors"
    verbs.average(Request(["hf://me/a/x", tmp_path / "b.st"], again))
    verbs.push(PushRequest(again, "hf://me/soup"))
    _, head, text = there(hub)["README.md"].decode().split("---\n", 2)
    assert head.startswith('base_model:\n- "me/a"\nbase_model_relation: merge\n')
    assert "| b.st | 1 | 1/2 |" in text


def test_a_card_that_the_hub_refuses_is_told(
    hub: Loopback, soup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs_push, "card_text", lambda *_, **__: '---\n- "mine"\n---\n')
    with pytest.raises(OutputError) as refusal:
        verbs.push(PushRequest(soup, "hf://me/soup"))
    assert refusal.value.message() == (
        "hf://me/soup: cannot be written: the hub refuses what README.md says at its beginning"
        " (upload it with `hf upload`)"
    )
    assert [*there(hub)] == [".gitattributes"]


def test_a_pipeline_is_pushed_to_a_folder_of_a_branch(hub: Loopback, tmp_path: Path) -> None:
    for seed, name in enumerate("pq"):
        save_pipeline(tmp_path / name, seed)
    verbs.average(Request([tmp_path / "p", tmp_path / "q"], tmp_path / "soup"))
    (tmp_path / "soup" / "README.md").write_text("of an ingredient")
    hub.commit("me/soup", FIRST, {".gitattributes": b""}, "dev")
    verbs.push(PushRequest(tmp_path / "soup", "hf://me/soup@dev/both", card=False))
    found = there(hub, "dev")
    local = {
        f"both/{each.relative_to(tmp_path / 'soup').as_posix()}": each.read_bytes()
        for each in (tmp_path / "soup").rglob("*")
        if each.is_file()
    }
    assert found == {".gitattributes": b"", **local}
    verbs.push(PushRequest(tmp_path / "soup", "hf://me/soup@dev/both"), force=True)
    assert b"library_name: diffusers" in there(hub, "dev")["both/README.md"]
    assert {*there(hub)} == {".gitattributes"}


@pytest.mark.parametrize(
    ("fault", "before"), [*(("500", n) for n in range(5)), ("cut", 2), ("lost", 2), ("lost", 4)]
)
def test_passing_faults_change_nothing(fault: str, before: int, hub: Loopback, soup: Path) -> None:
    hub.write_faults.extend(["none"] * before + [fault])
    made = verbs.push(PushRequest(soup, "hf://me/soup"))
    assert not hub.write_faults
    assert made.commit == hub.branches["me/soup@main"]
    assert there(hub)["soup.safetensors"] == soup.read_bytes()
    assert len(hub.commits) == 1


def test_another_file_of_the_same_size_is_not_taken_for_a_commit_that_was_made(
    hub: Loopback, tmp_path: Path
) -> None:
    for seed, name in enumerate("pq"):
        save_pipeline(tmp_path / name, seed)
    verbs.average(Request([tmp_path / "p", tmp_path / "q"], tmp_path / "soup"))
    pushed = PushRequest(tmp_path / "soup", "hf://me/soup", card=False)
    verbs.push(pushed)
    index = tmp_path / "soup" / "model_index.json"
    other = index.read_bytes().replace(b":", b": ", 1).replace(b"}", b" }", 1)
    index.write_bytes(other)
    old = {**there(hub), "model_index.json": other.swapcase()}
    hub.commit("me/soup", "2" * 40, old)
    hub.on_commit = lambda: hub.commit("me/soup", "3" * 40, there(hub))
    with pytest.raises(OutputError, match="has moved to another commit meanwhile"):
        verbs.push(pushed, force=True)
    assert there(hub)["model_index.json"] == other.swapcase()


def commit_elsewhere(hub: Loopback, _: Path) -> None:
    hub.on_commit = lambda: hub.commit("me/soup", "3" * 40, {"other": b""})


def change_soup(hub: Loopback, soup: Path) -> None:
    real = hub.large

    class Noticing(dict[str, bytes]):
        def __setitem__(self, key: str, value: bytes) -> None:
            soup.write_bytes(b"another")
            real[key] = value

    hub.large = Noticing()


@pytest.mark.parametrize(
    ("target", "prepare", "problem"),
    [
        (
            "hf://me/none",
            None,
            "hf://me/none: cannot be written: there is no such repository or branch",
        ),
        (
            "hf://me/soup@none",
            None,
            "hf://me/soup@none: cannot be written: there is no such repository or branch",
        ),
        (
            "hf://me/soup",
            lambda hub, _: hub.gated.add("me/soup"),
            "access is refused (log in with the tools of its library, and ask for access)",
        ),
        (
            "hf://me/soup",
            lambda hub, _: hub.write_faults.extend(["500"] * 1000),
            "hf://me/soup: cannot be written: the server answers 500, 5 times (try again later)",
        ),
        (
            "hf://me/soup",
            lambda hub, _: hub.write_faults.extend(["cut"] * 1000),
            "hf://me/soup: cannot be written: the connection fails, 5 times (try again later)",
        ),
        (
            "hf://me/soup",
            commit_elsewhere,
            "hf://me/soup: has moved to another commit meanwhile (try again)",
        ),
        ("hf://me/soup", change_soup, "soup.safetensors: changed while it was read"),
        (
            "hf://me/soup",
            lambda hub, _: hub.commit("me/soup", FIRST, {"README.md": b"my own"}),
            "hf://me/soup/README.md: exists (-f replaces it)",
        ),
    ],
)
def test_failures_are_one_line_and_nothing_is_added(
    target: str,
    prepare: Callable[[Any, Path], None] | None,
    problem: str,
    hub: Loopback,
    soup: Path,
) -> None:
    if prepare is not None:
        prepare(hub, soup)
    with pytest.raises(OutputError) as refusal:
        verbs.push(PushRequest(soup, target))
    assert refusal.value.message().endswith(problem.replace("access)", FULL))
    assert "hidden" not in refusal.value.message()
    assert not hub.commits
    assert "soup.safetensors" not in there(hub)


def test_what_cannot_be_pushed_is_refused(hub: Loopback, soup: Path, tmp_path: Path) -> None:
    target = "hf://me/soup"
    for source, place, kind, problem in (
        (soup, "s3://bucket/soup", UsageError, "is not hf://OWNER/NAME[@BRANCH][/FOLDER]"),
        (soup, "me/soup", UsageError, "is not hf://OWNER/NAME[@BRANCH][/FOLDER]"),
        (soup, "hf://soup", UsageError, "is not hf://OWNER/NAME"),
        (soup, f"hf://me/soup@{FIRST}", UsageError, "names a commit, and files are added to a"),
        ("-", target, UsageError, "standard input has no files to push"),
        ("hf://me/soup", target, UsageError, "is an address, and soups are pushed from this"),
        (tmp_path / "a.st", target, LedgerError, "a.st"),
    ):
        with pytest.raises(SoupError) as refusal:
            verbs.push(PushRequest(source, place))
        assert isinstance(refusal.value, kind)
        assert problem in refusal.value.message()
    assert not [each for each in hub.requests if not each.startswith("GET")]


def test_the_command_prints_the_address_or_json(
    hub: Loopback, soup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["--json", "--force", "--quiet"]):
        assert run_here("push", str(soup), "hf://me/soup/both", *words) == 0
        told = capsys.readouterr()
        commit = hub.branches["me/soup@main"]
        address = f"hf://me/soup@{commit}/both"
        if words:
            found = json.loads(told.out)
            assert (found["address"], found["commit"]) == (address, commit)
            assert found["files"] == ["both/README.md", "both/soup.safetensors"]
            assert told.err == ""
        else:
            assert told.out == f"{address}\n"
            assert told.err.startswith(f"{soup}: pushed 2 files, ")


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    for seed, name in enumerate("pq"):
        save_pipeline(tmp_path / name, seed)
    verbs.average(Request([tmp_path / "p", tmp_path / "q"], tmp_path / "soup"))
    return tmp_path / "soup"


@pytest.mark.parametrize("name", ["model_index.json", "unet/diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize("before", range(4))
def test_a_file_that_is_gone_is_named_and_not_the_repository(
    before: int, name: str, hub: Loopback, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = pipeline / name
    steps = iter(range(100))
    hub.on_write = lambda: gone.unlink() if next(steps) == before else None
    with pytest.raises(OutputError, match=rf"{name}: changed while it was read"):
        verbs.push(PushRequest(pipeline, "hf://me/soup", card=False))
    assert not hub.commits


def test_a_file_that_is_gone_after_the_commit_does_not_hide_it(
    hub: Loopback, pipeline: Path
) -> None:
    hub.commit("me/soup", FIRST, {".gitattributes": b""}, "dev")
    verbs.push(PushRequest(pipeline, "hf://me/soup@dev", card=False))
    requests = [each for each in hub.requests if not each.startswith("GET")]
    hub.on_commit = lambda: (pipeline / "model_index.json").unlink(missing_ok=True)
    hub.write_faults.extend(["none"] * (len(requests) - 1) + ["lost"])
    made = verbs.push(PushRequest(pipeline, "hf://me/soup", card=False))
    assert made.commit == hub.branches["me/soup@main"]
    assert len(hub.commits) == 2


def test_a_file_that_changes_between_two_attempts_is_pushed_as_it_was_checked(
    hub: Loopback, pipeline: Path
) -> None:
    changed = pipeline / "model_index.json"
    data, seen = changed.read_bytes(), []

    def change() -> None:
        if "/commit/" in hub.requests[-1] and not seen:
            seen.append(changed.write_bytes(data + b" "))
            hub.write_faults.append("500")

    hub.on_write = change
    verbs.push(PushRequest(pipeline, "hf://me/soup", card=False))
    assert seen
    assert there(hub)["model_index.json"] == data


def test_a_dry_run_says_what_would_be_pushed_and_sends_nothing(
    hub: Loopback, soup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit("me/soup", FIRST, {"both/README.md": b"old"}, "dev")
    words = ("push", str(soup), "hf://me/soup@dev/both", "--dry-run")
    assert run_here(*words, "--force") == 0
    told = capsys.readouterr()
    assert run_here(*words, "--force", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert told.err == ""
    assert all(each.startswith("GET") for each in hub.requests)
    made = verbs.push(PushRequest(soup, "hf://me/soup@dev/both"), force=True)
    sizes = {name: len(there(hub, "dev")[name]) for name in made.files}
    assert told.out.splitlines() == [
        "target   hf://me/soup@dev/both",
        f"branch   dev at {FIRST}",
        "push     2 files, 202 kB",
        f"replace  both/README.md, {sizes['both/README.md']} B",
        "add      both/soup.safetensors, 201 kB",
    ]
    assert (plan["repository"], plan["branch"], plan["folder"]) == ("me/soup", "dev", "both")
    assert {each["name"]: each["bytes"] for each in plan["files"]} == sizes
    assert [each["replaces"] for each in plan["files"]] == [True, False]
    assert plan["bytes"] == made.size


def test_a_dry_run_refuses_what_a_push_would(
    hub: Loopback, soup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit("me/full", FIRST, {"README.md": b"old"})
    hub.commit("me/others", FIRST, {".gitattributes": b""})
    hub.read_only.add("me/others")
    for source, target in (
        (soup, "hf://me/full"),
        (soup, "hf://me/none"),
        (soup, "hf://me/others"),
        (soup, "hf://me/soup@none"),
        (soup, f"hf://me/soup@{FIRST}"),
        (soup, "me/soup"),
        (tmp_path / "a.st", "hf://me/soup"),
        (tmp_path / "none", "hf://me/soup"),
    ):
        codes = [run_here("push", str(source), target, *more) for more in ([], ["-n"])]
        real, dry = capsys.readouterr().err.splitlines()
        assert (codes[0], real) == (codes[1], dry)
        assert codes[0] in range(2, 9)
    assert not hub.commits
