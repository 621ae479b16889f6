"""Addresses in ledgers: ingredients on the hub are found there, at the commit that was read."""

from __future__ import annotations

from pathlib import Path

from loopback import Loopback
from making import files, save_pipeline
from remote_models import FIRST, SECOND, average, local_root, model, places

from soupctl import verbs
from soupctl.verbs import Request, Revision


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
