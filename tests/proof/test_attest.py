"""An attestation states what is in a soup, after that was verified, in equal bytes each time."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attesting import attest, checked
from blake3 import blake3
from making import save, save_pipeline
from revising import average, revise, root
from trained import save_shard, save_trained

from soupctl.choices import MergeMethod
from soupctl.errors import InputError, LedgerError, LimitError, OutputError, UsageError
from soupctl.proof import signing
from soupctl.verbs import Level, MergeRequest, merge


@pytest.fixture
def soup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A soup of `a`, `b` and `c`, from which `c` was removed."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(Path(f"{name}.st"), w=np.arange(8, dtype=np.float16) * (number + 1))
    average("whole.st", "a.st", ("b.st", Fraction(1, 3)), "c.st")
    revise("subtract", "whole.st", Path("soup.st"), removed=["c.st"])
    return Path("soup.st")


def statement(path: str = "proof.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def test_it_states_the_file_with_both_digests(soup: Path) -> None:
    attest(soup)

    data = soup.read_bytes()
    digests = {"sha256": hashlib.sha256(data).hexdigest(), "blake3": blake3(data).hexdigest()}
    assert statement()["subject"] == [{"name": "soup.st", "digest": digests}]
    assert statement()["_type"] == "https://in-toto.io/Statement/v1"


def test_it_states_ingredients_with_weights_and_what_was_removed(soup: Path) -> None:
    attest(soup)

    (component,) = statement()["predicate"]["components"]
    materials = {
        each["name"]: (each["weight"], each["digest"]["soupctlContent"])
        for each in component["materials"]
    }
    assert materials == {
        name: (weight, root(name).removeprefix("blake3:"))
        for name, weight in (("a.st", "1"), ("b.st", "1/3"))
    }
    ((operation, name, weight),) = (
        (each["operation"], each["name"], each["weight"]) for each in component["removed"]
    )
    assert (operation, name, weight) == ("subtract", "c.st", "-1")


def test_the_models_of_a_method_are_no_deltas(soup: Path) -> None:
    models = ["b.st", "c.st"]
    request = MergeRequest(MergeMethod.TIES, models, "merged.st", "a.st", [Fraction(1, 5)])
    merge(request)
    attest("merged.st")

    (component,) = statement()["predicate"]["components"]
    roles = {each["name"]: each["role"] for each in component["materials"]}
    assert roles == {"a.st": "base", "b.st": "ingredient", "c.st": "ingredient"}


def test_it_states_the_level_that_was_proven_and_by_what(soup: Path) -> None:
    levels = []
    for level in (None, Level.DIGEST, Level.HEADER):
        attest(soup, level=level)
        levels.append(statement()["predicate"]["verification"]["level"])

    assert levels == ["rebuild", "digest", "header"]
    assert statement()["predicate"]["verification"]["arithmetic"] == 1


def test_it_states_the_training_data_of_ingredients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("x.safetensors"), w=np.ones(20, np.float16))
    runs = [save_trained(name, save_shard(f"data/{name}", name.encode()), 1) for name in "ab"]
    average("soup.st", runs[0], save(Path("y.st"), w=np.ones(20, np.float16)))

    attest("soup.st")

    (component,) = statement()["predicate"]["components"]
    data = [
        each["training"]["data"]["name"] for each in component["materials"] if "training" in each
    ]
    assert data == ["a"]
    assert checked("soup.st").problems == ()


def test_equal_soups_have_equal_attestations(soup: Path, tmp_path: Path) -> None:
    attest(soup)
    attest(soup.absolute(), "again.json")

    assert Path("proof.json").read_bytes() == Path("again.json").read_bytes()
    assert str(tmp_path) not in Path("proof.json").read_text()


def test_a_folder_is_attested_with_every_file_but_those_of_git_and_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    average("soup", save_pipeline(Path("a"), 1), save_pipeline(Path("b"), 2))
    Path("soup/.git").mkdir()
    Path("soup/.git/config").write_text("")

    attest("soup", "soup/proof.json")
    attest("soup", "soup/proof.json")

    names = {each["name"] for each in statement("soup/proof.json")["subject"]}
    assert {"model_index.json", "tokenizer/vocab.json"} < names
    assert not {".git/config", "proof.json"} & names
    assert checked("soup", "soup/proof.json").problems == ()


def test_a_soup_that_is_not_proven_is_not_attested(soup: Path) -> None:
    Path("a.st").rename("moved")
    with pytest.raises(LedgerError, match=r"is not proven to level rebuild: .*a\.st"):
        attest(soup, level=Level.REBUILD)
    attest(soup)
    data = bytearray(soup.read_bytes())
    data[-1] ^= 1
    soup.write_bytes(data)

    with pytest.raises(LedgerError, match="is not proven to level digest"):
        attest(soup, "other.json")

    assert not Path("other.json").exists()


def test_an_output_that_exists_or_is_an_input_is_refused(soup: Path) -> None:
    before = soup.read_bytes()
    attest(soup)

    with pytest.raises(OutputError, match=r"proof\.json: exists"):
        attest(soup, force=False)
    with pytest.raises(OutputError, match="is also an input"):
        attest(soup, str(soup))

    assert soup.read_bytes() == before


def test_requests_that_no_soup_satisfies_are_refused(soup: Path) -> None:
    with pytest.raises(UsageError, match="standard input"):
        attest("-")
    with pytest.raises(UsageError, match="proves nothing"):
        attest(soup, level=Level.NOTHING)
    with pytest.raises(UsageError, match="needs the key"):
        attest(soup, certificate=Path("a.crt"))


def test_without_the_extra_signing_names_it_and_attesting_works(
    soup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    monkeypatch.setattr(signing, "find_spec", lambda name: None)
    attest(soup)

    with pytest.raises(LimitError, match=r"pip install 'soupctl\[sign\]'"):
        attest(soup, sign_with=Path("key.pem"))


def test_links_out_of_a_folder_are_not_attested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    average("soup", save_pipeline(Path("a"), 1), save_pipeline(Path("b"), 2))
    Path("secret").write_text("x")
    Path("soup/notes.txt").symlink_to(Path("secret").absolute())

    with pytest.raises(InputError, match="is a link out of its folder"):
        attest("soup")
