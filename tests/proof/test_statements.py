"""What is no attestation, and a statement with wrong values, is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attesting import attest, checked, edit

from soupctl.errors import InputError

VALID = '{"_type":"https://in-toto.io/Statement/v1"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"a":1,"a":2}',
        "{" * 1000,
        '{"_type":' + "[" * 100_000,
        VALID + "}",
        VALID + ',"predicateType":"other"}',
        VALID + ',"predicateType":"urn:soupctl:attestation:v1","subject":5}',
        VALID + ',"predicateType":"https://model_signing/signature/v1.0","predicate":[]}',
        '{"payload":"!","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":""}]}',
        '{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[]}',
        '{"mediaType":"x","dsseEnvelope":7}',
        '{"payloadType":NaN}',
        "\ufeff{}",
    ],
)
def test_what_is_no_attestation_is_refused_in_one_line(soup: str, text: str) -> None:
    Path("proof.json").write_text(text)

    with pytest.raises(InputError, match=r"^proof\.json: is not an attestation: .+$") as raised:
        checked(soup)

    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it["subject"].clear(),
        lambda it: it["subject"].append(it["subject"][0]),
        lambda it: it["subject"][0].update(name="../secret"),
        lambda it: it["subject"][0].update(name=7),
        lambda it: it["subject"][0].update(digest={"sha256": "00"}),
        lambda it: it["subject"][0]["digest"].update(blake3="Z" * 64),
        lambda it: it["predicate"].update(components=[]),
        lambda it: it["predicate"].update(components=["unet"]),
        lambda it: it["predicate"]["components"][0].update(name=[]),
        lambda it: it["predicate"]["verification"].update(level="nothing"),
        lambda it: it["predicate"]["verification"].update(level={}),
        lambda it: it["predicate"]["verification"].update(arithmetic=True),
        lambda it: it["predicate"]["verification"].update(unproven=-1),
        lambda it: it["predicate"]["verification"].update(soupctl="x" * 10_000),
        lambda it: it.pop("predicate"),
    ],
)
def test_a_statement_with_wrong_values_is_refused(
    soup: str, change: Callable[[dict[str, Any]], None]
) -> None:
    attest(soup)
    edit("proof.json", change)

    with pytest.raises(InputError, match=r"^proof\.json: is not an attestation: .+$"):
        checked(soup)
