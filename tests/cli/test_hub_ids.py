"""Plain ids of the hub on command lines: with --hub, and where there is no such path."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hub_server import lead_hub_to
from loopback import Loopback, serving
from remote_models import FIRST, A, B
from run_here import run_here

from soupctl import verbs
from soupctl.checkpoints.remote.hub_ids import on_hub
from soupctl.cli.options import split_weight
from soupctl.verbs import Ingredient, Request

REFUSED = (
    "access is refused (log in with the tools of its library, and ask for access where it is gated"
)
Told = pytest.CaptureFixture[str]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Loopback]:
    """Two repositories, and their soup `local.st` in the working folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, data in (("a.st", A), ("b.st", B)):
        Path(name).write_bytes(data)
    verbs.average(Request([Ingredient("a.st"), Ingredient("b.st", Fraction(2))], "local.st"))
    with serving() as state:
        lead_hub_to(state, monkeypatch, tmp_path / "hub")
        for name, data in (("a", A), ("b", B)):
            state.commit(f"me/{name}", FIRST, {f"{name}.safetensors": data, "config.json": b"{}"})
        yield state


def root(path: str) -> str:
    return verbs.content_digests(path)[0].digest


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("me/cats", "hf://me/cats", None),
        ("me/cats@0.5", "hf://me/cats", "1/2"),
        ("me/cats@v2@1/3", "hf://me/cats@v2", "1/3"),
        ("me/cats@main/unet", "hf://me/cats@main/unet", None),
        ("here/cats", "here/cats", None),
        ("here/cats@2", "here/cats", "2"),
        ("./me/cats", "./me/cats", None),
        ("../cats", "../cats", None),
        ("/me/cats", "/me/cats", None),
        ("cats", "cats", None),
        ("s3://bucket/cats", "s3://bucket/cats", None),
        ("hf://me/cats", "hf://me/cats", None),
        ("-", "-", None),
    ],
)
def test_an_id_is_an_address_unless_it_is_a_path(
    text: str, path: str, weight: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "cats").mkdir(parents=True)
    found, share = split_weight(on_hub(text))
    assert (found, share if share is None else str(share)) == (path, weight)


def test_texts_that_are_no_ids_stay() -> None:
    for text in ("me//cats", "me/", "/", "me/cats name", "", "a" * 5000 + "/b", "a/b\0"):
        assert on_hub(text) in (text, f"hf://{text}")
    for text in ("me//cats", "me/", "/", "me/cats name", ""):
        assert on_hub(text) == text


def test_an_absent_path_that_may_be_an_id_gets_advice(soupctl: Any, save: Any) -> None:
    save("a.st", {})
    for words in (("avg", "a.st", "me/cats", "-o", "x.st"), ("inspect", "me/cats")):
        asked = soupctl(*words)
        assert asked.err == (
            b"soupctl: me/cats: cannot be read: No such file or directory"
            b" (--hub reads it from the hub)\n"
        )
    asked = soupctl("avg", "a.st", "cats", "-o", "x.st")
    assert asked.err == b"soupctl: cats: cannot be read: No such file or directory\n"


def test_ids_stand_in_arguments_options_and_lists(hub: Loopback, capsys: Told) -> None:
    Path("list").write_text("me/b@2\n")
    take = ("--take", "block.0.*=me/b", "--config-from", "me/a")
    assert run_here("avg", "me/a", "--files-from", "list", "-o", "x.st", "--hub") == 0
    assert run_here("avg", "me/a", "me/b@main", *take, "-o", "t.st", "--hub", "-q") == 0
    assert root("x.st") == root("local.st")
    assert run_here("diff", "x.st", "me/a", "--hub", "--quiet") == 1
    assert run_here("subtract", "x.st", "me/b", "-o", "s.st", "--hub", "-q") == 0
    assert run_here("has", "s.st", "me/a", "--hub", "-q") == 0
    assert root("s.st") == root("a.st")
    assert "hidden" not in "".join(capsys.readouterr())


def test_a_path_goes_before_an_id(hub: Loopback) -> None:
    Path("me").mkdir()
    Path("me/a").write_bytes(B)
    assert run_here("hash", "me/a", "me/b", "--hub") == 0
    assert not [each for each in hub.requests if "me/a" in each]
    assert run_here("diff", "me/a", "me/b", "--hub", "-q") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "avg a.st me/none@2 -o x.st",
            "hf://me/none: cannot be read: there is no such file (there is no path me/none here)",
        ),
        (
            "inspect me/a/no",
            "hf://me/a/no: cannot be read: there is no such file (there is no path me/a/no here)",
        ),
        (
            "hash me/a..b",
            "hf://me/a..b: is not the name of a repository (there is no path me/a..b here)",
        ),
        ("hash hf://me/none", "hf://me/none: cannot be read: there is no such file"),
        (
            "verify local.st gated/c",
            f"hf://gated/c: cannot be read: {REFUSED}; there is no path gated/c here)",
        ),
    ],
)
def test_a_mistyped_name_was_looked_for_in_both_places(
    words: str, message: str, hub: Loopback, capsys: Told
) -> None:
    hub.gated.add("gated/c")
    assert run_here(*words.split(), "--hub") in (2, 3)
    assert capsys.readouterr().err == f"soupctl: {message}\n"


RECIPE = """
inputs = {a = "me/a", b = "hf://me/b", c = "a.st"}
[steps.mean]
average = ["a", "b", "c"]
weights = [1, 4, 1]
"""
CONFIG = """
merge_method: linear
models:
- {model: me/a, parameters: {weight: 1}}
- {model: me/b@main, parameters: {weight: 2}}
"""


def test_recipes_and_configs_name_repositories(hub: Loopback, capsys: Told) -> None:
    Path("recipes").mkdir()
    Path("recipes/a.st").write_bytes(A)
    Path("recipes/mean.toml").write_text(RECIPE)
    Path("recipes/mean.yml").write_text(CONFIG)
    for name in ("mean.toml", "mean.yml"):
        assert run_here("run", f"recipes/{name}", "-o", "x.st", "-fq", "--hub") == 0
        assert root("x.st") == root("local.st")
    assert run_here("run", "recipes/mean.yml", "-o", "y.st", "-q") == 3
    assert "recipes/me/a: cannot be read" in capsys.readouterr().err


def test_the_recipe_of_a_soup_of_addresses_runs_in_any_folder(hub: Loopback, capsys: Told) -> None:
    soup = str(Path("x.st").resolve())
    assert run_here("avg", "me/a", "me/b@2", "-o", soup, "--hub", "-q") == 0
    capsys.readouterr()
    assert run_here("log", soup, "--recipe") == 0
    Path("far").mkdir()
    Path("far/recipe.toml").write_text(capsys.readouterr().out)
    assert run_here("run", "far/recipe.toml", "-o", "y.st", "-q") == 0
    assert root("y.st") == root(soup)
