"""Plain ids of the hub on command lines: with --hub, and where there is no such path."""

from __future__ import annotations

from pathlib import Path

import pytest

from soupctl.cli.options import on_hub, read_inputs


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("me/cats", "hf://me/cats", "1"),
        ("me/cats@0.5", "hf://me/cats", "0.5"),
        ("me/cats@v2@1/3", "hf://me/cats@v2", "1/3"),
        ("me/cats@main/unet", "hf://me/cats@main/unet", "1"),
        ("here/cats", "here/cats", "1"),
        ("here/cats@2", "here/cats", "2"),
        ("./me/cats", "./me/cats", "1"),
        ("../cats", "../cats", "1"),
        ("/me/cats", "/me/cats", "1"),
        ("cats", "cats", "1"),
        ("s3://bucket/cats", "s3://bucket/cats", "1"),
        ("-", "-", "1"),
    ],
)
def test_an_id_is_an_address_unless_it_is_a_path(
    text: str, path: str, weight: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "cats").mkdir(parents=True)
    (found,) = read_inputs([text], None, None, null=False, hub=True)
    assert (found.path, str(found.weight)) == (path, {"0.5": "1/2"}.get(weight, weight))


def test_an_absent_path_that_may_be_an_id_gets_advice(soupctl, save) -> None:
    save("a.st", {})
    asked = soupctl("avg", "a.st", "me/cats", "-o", "x.st")
    assert asked.err == (
        b"soupctl: me/cats: cannot be read: No such file or directory"
        b" (--hub reads it from the hub)\n"
    )
    asked = soupctl("avg", "a.st", "cats", "-o", "x.st")
    assert asked.err == b"soupctl: cats: cannot be read: No such file or directory\n"


def test_texts_that_are_no_ids_stay() -> None:
    for text in ("me//cats", "me/", "/", "me/cats name", ""):
        assert on_hub(text) == text
