"""Whatever is altered after a soup was attested is found, each with a message of its own."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from attesting import attest, checked
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from making import metadata, save, save_pipeline
from revising import average
from signing_keys import save_certificates, save_key

from soupctl.choices import Proof
from soupctl.errors import InputError

SSH = shutil.which("ssh-keygen")
needs_ssh = pytest.mark.skipif(SSH is None, reason="ssh-keygen is not installed")


@pytest.fixture
def soup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(Path(f"{name}.st"), w=np.arange(8, dtype=np.float16) * (number + 1))
    average("soup.st", "a.st", "b.st")
    average("other.st", "a.st", "c.st")
    return "soup.st"


@pytest.fixture
def key(soup: str) -> str:
    """A key, and an attestation of the soup that is signed with it."""
    save_key("key")
    attest(soup, sign_with=Path("key.pem"))
    return "key.pub"


def only_problem(*words: Any) -> str:
    found = checked(*words)
    (problem,) = found.problems
    assert found.verdict is Proof.FAILED
    return problem


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


def edit(path: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the statement that an attestation holds, signed or not."""
    value = json.loads(Path(path).read_text())
    if "dsseEnvelope" in value or "payload" in value:
        envelope = value.get("dsseEnvelope", value)
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement["predicate"].get("soupctl", statement))
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    else:
        change(value)
    Path(path).write_text(json.dumps(value))


def set_weight(statement: dict[str, Any]) -> None:
    statement["predicate"]["components"][0]["materials"][0]["weight"] = "7"


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


def save_ssh_key(name: str) -> None:
    assert SSH is not None
    subprocess.run([SSH, "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", name], check=True)


@needs_ssh
def test_an_ssh_key_signs_and_its_signature_is_checked(soup: str, key: str) -> None:
    for name in ("id", "other"):
        save_ssh_key(name)
    kind, digits, _ = Path("id.pub").read_text().split()
    Path("signers").write_text(f"me@here {kind} {digits}\n")
    Path("strangers").write_text(f"you@there {Path('other.pub').read_text()}")
    attest(soup, "ssh.json", sign_with=Path("id"))

    assert checked(soup, "ssh.json", "id.pub").signature == "signed with the key of id.pub"
    assert checked(soup, "ssh.json", "signers").signature == "signed by me@here"
    assert "another key than other.pub" in only_problem(soup, "ssh.json", "other.pub")
    assert "a key that strangers lacks" in only_problem(soup, "ssh.json", "strangers")
    assert "is another kind of key" in only_problem(soup, "ssh.json", key)
    assert "is signed with no SSH key" in only_problem(soup, "proof.json", "id.pub")


@needs_ssh
def test_a_statement_altered_after_an_ssh_key_signed_it_is_found(soup: str) -> None:
    save_ssh_key("id")
    attest(soup, sign_with=Path("id"))
    edit("proof.json", set_weight)

    problems = checked(soup, "proof.json", "id.pub").problems

    assert "has a signature that does not fit" in problems[0]


@needs_ssh
def test_an_ssh_key_with_a_passphrase_is_refused_and_never_asked_for(soup: str) -> None:
    assert SSH is not None
    words = [SSH, "-q", "-t", "ed25519", "-N", "secret", "-f", "locked"]
    subprocess.run(words, check=True)

    with pytest.raises(InputError, match="locked: cannot be used to sign"):
        attest(soup, sign_with=Path("locked"))


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
