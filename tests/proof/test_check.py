"""Whatever is altered after a soup was attested is found, each with a message of its own."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from attesting import attest, checked, edit, only_problem, set_weight
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from making import metadata, save, save_pipeline
from revising import average
from signing_keys import save_certificates, save_key

from soupctl.choices import Proof
from soupctl.errors import InputError


def test_a_sound_attestation_is_ok_and_says_whose_it_is(soup: str, key: str) -> None:
    found = checked(soup, "proof.json", key)

    assert (found.verdict, found.signature) == (Proof.OK, "signed with the key of key.pub")


def test_an_unsigned_attestation_says_so(soup: str) -> None:
    attest(soup)

    assert checked(soup).signature == "not signed, so anyone can have written it"
    assert checked(soup).verdict is Proof.OK


def test_a_signature_that_is_not_checked_proves_nothing(soup: str, key: str) -> None:
    found = checked(soup)
    attest(soup, "bare.json")
    stripped = checked(soup, "bare.json", key)

    assert (found.verdict, stripped.verdict) == (Proof.UNPROVEN, Proof.UNPROVEN)
    assert "no key is given" in found.problems[0]
    assert "is not signed" in stripped.problems[0]


def test_another_key_is_found(soup: str, key: str) -> None:
    save_key("other")

    assert "is signed with another key than other.pub" in only_problem(
        soup, "proof.json", "other.pub"
    )


def test_an_altered_statement_does_not_fit_its_signature(soup: str, key: str) -> None:
    edit("proof.json", set_weight)

    found = checked(soup, "proof.json", key)

    assert "has a signature that does not fit" in found.problems[0]
    assert "states other ingredients, weights" in found.problems[1]


def test_an_altered_signature_does_not_fit(soup: str, key: str) -> None:
    value = json.loads(Path("proof.json").read_text())
    (signature,) = value["dsseEnvelope"]["signatures"]
    raw = bytearray(base64.b64decode(signature["sig"]))
    raw[-1] ^= 1
    signature["sig"] = base64.b64encode(raw).decode()
    Path("proof.json").write_text(json.dumps(value))

    assert "has a signature that does not fit" in only_problem(soup, "proof.json", key)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("materials", [], "states other ingredients, weights or training data"),
        ("removed", [{}], "states other removed ingredients"),
        ("history", [], "states other operations"),
        ("exact", False, "states other exactness"),
        ("ancestors", [], "states other ingredients of ingredients"),
        ("extra", 1, "states things that do not follow"),
        ("digest", {}, "attestation of another soup"),
        ("name", "unet", "attestation of another soup, with other components"),
    ],
)
def test_a_statement_that_the_ledger_contradicts_is_found(
    soup: str, member: str, value: object, message: str
) -> None:
    attest(soup)
    edit("proof.json", lambda it: it["predicate"]["components"][0].update({member: value}))

    assert message in only_problem(soup)


def test_an_altered_tensor_is_found_in_the_file_and_by_the_ledger(soup: str, key: str) -> None:
    raw = bytearray(Path(soup).read_bytes())
    raw[-1] ^= 1
    Path(soup).write_bytes(raw)

    assert only_problem(soup, "proof.json", key) == (
        "the soup has another file than was attested: soup.st"
    )


def test_an_altered_ledger_is_found(soup: str, key: str) -> None:
    text = metadata(Path(soup))["soupctl"]
    tensors = safetensors.numpy.load_file(soup)
    safetensors.numpy.save_file(tensors, soup, {"soupctl": text.replace("a.st", "z.st")})

    problems = checked(soup, "proof.json", key).problems

    assert problems[0] == "the soup has no sound ledger to compare it with"
    assert len(problems) == 2


def test_a_ledger_that_was_replaced_by_another_sound_one_is_found(soup: str, key: str) -> None:
    save(Path("d.st"), w=safetensors.numpy.load_file(soup)["w"])
    average("again.st", "d.st")
    Path("again.st").replace(soup)

    problems = checked(soup, "proof.json", key).problems

    assert "states other ingredients, weights" in problems[0]
    assert problems[-1] == "the soup has another file than was attested: soup.st"


def test_an_attestation_of_another_soup_is_found(soup: str, key: str) -> None:
    assert "attestation of another soup" in only_problem("other.st", "proof.json", key)


def test_a_renamed_soup_is_still_the_attested_one(soup: str, key: str) -> None:
    Path(soup).rename("renamed.st")

    assert checked("renamed.st", "proof.json", key).verdict is Proof.OK


def test_files_that_are_added_removed_or_changed_in_a_folder_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    average("soup", save_pipeline(Path("a"), 1), save_pipeline(Path("b"), 2))
    attest("soup")
    Path("soup/added.py").write_text("raise SystemExit")
    Path("soup/tokenizer/vocab.json").unlink()
    Path("soup/scheduler/scheduler_config.json").write_text("{}")

    problems = checked("soup").problems

    assert problems == (
        "the soup has no file tokenizer/vocab.json",
        "the soup has a file that is not attested: added.py",
        "the soup has another file than was attested: scheduler/scheduler_config.json",
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["file", "folder", "certificate"])
def test_model_signing_verifies_what_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    verifying = pytest.importorskip("model_signing").verifying
    monkeypatch.chdir(tmp_path)
    made, target = save_key("key", ec.SECP384R1()), "soup" if kind == "folder" else "soup.st"
    save_certificates("ca", made)
    if kind == "folder":
        average(target, save_pipeline(Path("a"), 1), save_pipeline(Path("b"), 2))
        proof, changed = "soup/proof.json", Path("soup/tokenizer/vocab.json")
    else:
        average(target, save(Path("a.st"), w=np.ones(4, np.float32)))
        proof, changed = "proof.json", Path(target)
    certificate = Path("ca.crt") if kind == "certificate" else None
    attest(target, proof, sign_with=Path("key.pem"), certificate=certificate)
    config = verifying.Config()
    if certificate:
        config = config.use_certificate_verifier(certificate_chain=["ca.root"])
    else:
        config = config.use_elliptic_key_verifier(public_key="key.pub")
    if kind == "folder":
        # as its command does, which leaves out the signature that it is given
        hashing = pytest.importorskip("model_signing").hashing
        config = config.set_hashing_config(hashing.Config().set_ignored_paths(paths=["proof.json"]))

    config.verify(Path(target), Path(proof))

    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(ValueError, match="Signature mismatch"):
        config.verify(Path(target), Path(proof))


def test_a_certificate_is_checked_up_to_one_that_is_trusted(soup: str) -> None:
    made = save_key("key")
    save_certificates("ca", made)
    save_certificates("other", made)
    save_certificates("encrypting", made, signs=False)
    attest(soup, sign_with=Path("key.pem"), certificate=Path("ca.crt"))
    good = checked(soup, "proof.json", "ca.root")
    with_key = checked(soup, "proof.json", "key.pub")
    wrong = only_problem(soup, "proof.json", "other.root")
    attest(soup, sign_with=Path("key.pem"), certificate=Path("encrypting.crt"))
    unfit = only_problem(soup, "proof.json", "encrypting.root")

    assert good.signature == "signed with a certificate that ca.root vouches for"
    assert with_key.verdict is Proof.OK
    assert "a certificate that is not trusted" in wrong
    assert "a certificate that is not for that" in unfit


def test_a_certificate_of_another_key_is_refused(soup: str) -> None:
    save_certificates("ca", save_key("key"))
    save_key("other")

    with pytest.raises(InputError, match=r"is not for the key other\.pem"):
        attest(soup, sign_with=Path("other.pem"), certificate=Path("ca.crt"))


def test_files_that_are_no_keys_are_refused(soup: str, key: str) -> None:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path("rsa.pem").write_bytes(text)
    save_key("koblitz", ec.SECP256K1())

    for name, message in (
        ("rsa.pem", "is not an elliptic-curve key"),
        ("soup.st", "is not a private key in PEM"),
        ("koblitz.pem", "is not a key of the curve"),
    ):
        with pytest.raises(InputError, match=message):
            attest(soup, sign_with=Path(name))
    with pytest.raises(InputError, match="is not a public key in PEM"):
        checked(soup, "proof.json", "soup.st")
