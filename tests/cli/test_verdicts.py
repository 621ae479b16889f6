"""`verify` opens with its verdict, failures first, and --json has all that it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from making import save_pipeline


@pytest.fixture
def soup(soupctl, ingredients) -> str:
    assert soupctl("avg", *ingredients, "-o", "whole.st").code == 0
    assert soupctl("subtract", "whole.st", ingredients[0], "-o", "soup.st").code == 0
    return "soup.st"


def first_word(soupctl, *words: str) -> str:
    return soupctl("verify", *words).text.split(":")[0]


def test_a_proven_soup_is_ok(soupctl, soup):
    assert "OK" == first_word(soupctl, soup)


def test_a_missing_ingredient_leaves_a_rebuild_unproven(soupctl, soup, ingredients):
    Path(ingredients[1]).rename("moved")

    assert "UNPROVEN" == first_word(soupctl, soup, "--level", "rebuild")
    assert "OK" == first_word(soupctl, soup)
    assert "UNPROVEN" == first_word(soupctl, "moved")


def test_an_altered_soup_has_failed(soupctl, soup):
    raw = bytearray(Path(soup).read_bytes())
    raw[-1] ^= 1
    Path(soup).write_bytes(raw)

    assert "FAILED" == first_word(soupctl, soup)
    told = json.loads(soupctl("verify", soup, "--json").text)
    assert ("FAILED", True) == (told["verdict"], told["refuted"])


def test_a_ledger_of_a_later_format_is_unproven_and_the_message_says_how_to_read_it(soupctl, soup):
    raw = Path(soup).read_bytes()
    for version, word in ((9, "UNPROVEN"), (0, "FAILED")):
        later = raw.replace(rb"\"format\":1", rb"\"format\":%d" % version)
        assert raw != later
        Path(soup).write_bytes(later)

        done = soupctl("verify", soup)
        told = json.loads(soupctl("verify", soup, "--json").text)

        assert (1, word) == (done.code, done.text.split(":")[0])
        assert f"its ledger has format {version}, this soupctl reads formats 1 to" in done.text
        assert "use a newer soupctl" in done.text
        assert (word, word == "FAILED") == (told["verdict"], told["refuted"])


def test_a_sum_of_a_later_format_is_unproven(soupctl, ingredients):
    assert soupctl("avg", *ingredients, "-o", "kept.st", "--keep-sum").code == 0
    (kept,) = Path().glob("kept.st.*.sum")
    raw = kept.read_bytes()
    kept.write_bytes(raw.replace(rb"\"format\":1,\"ledger\":\"b", rb"\"format\":7,\"ledger\":\"b"))

    assert raw != kept.read_bytes()
    text = soupctl("verify", "kept.st").text
    assert text.startswith("UNPROVEN: kept.st")
    assert "its record of a sum has format 7, a later one (use a newer soupctl; without" in text


def test_a_delta_of_a_later_format_is_unproven(soupctl, ingredients):
    assert soupctl("delta", *ingredients[:2], "-o", "d.delta").code == 0
    raw = Path("d.delta").read_bytes()
    later = raw.replace(rb"\"format\":1,\"ledger\":\"b", rb"\"format\":7,\"ledger\":\"b")
    Path("d.delta").write_bytes(later)

    assert raw != later
    text = soupctl("verify", "d.delta").text
    assert text.startswith("UNPROVEN: d.delta")
    assert "its record of a delta has format 7, a later one (use a newer soupctl" in text


def test_the_worst_component_comes_first(soupctl):
    for seed, name in enumerate("pq"):
        save_pipeline(Path(name), seed)
    assert soupctl("avg", "p", "q", "-o", "pipe").code == 0
    vae = Path("pipe/vae/diffusion_pytorch_model.safetensors")
    raw = bytearray(vae.read_bytes())
    raw[-1] ^= 1
    vae.write_bytes(raw)

    lines = soupctl("verify", "pipe").text.splitlines()

    assert ["FAILED: pipe/vae", "OK: pipe/text_encoder", "OK: pipe/unet"] == [
        ":".join(line.split(":")[:2]) for line in lines
    ]


def test_json_lists_ingredients_and_removals_of_a_soup(soupctl, soup, ingredients):
    told = json.loads(soupctl("verify", soup, "--json").text)
    (component,) = told["components"]

    assert ("OK", False) == (told["verdict"], told["refuted"])
    assert {"soupctl", "arithmetic"} <= told.keys()
    assert sorted(ingredients[1:]) == sorted(each["name"] for each in component["ingredients"])
    assert [("subtract", ingredients[0])] == [
        (each["operation"], each["name"]) for each in component["removed"]
    ]
    hashed = json.loads(soupctl("hash", soup, "--json").text)["digests"][0]["digest"]
    assert hashed == component["digest"]
