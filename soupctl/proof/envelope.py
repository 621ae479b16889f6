"""The file of an attestation: a bare statement, or a signed one in a standard container.

Rule 1: what is signed is the payload of a DSSE envelope; with a key or a certificate the envelope
lies in a sigstore bundle, with an SSH key it is the whole file.
Rule 2: nothing in the file is believed before it is checked, and nothing of it is run.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..format.strict_json import decode, parse_object
from ..frozen import frozen
from ..storage.files import read_file
from .model_signature import attestation_of
from .statement import Attestation

PAYLOAD = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SSH_MAGIC = b"SSHSIG"
"""The first bytes of the signature of an SSH key."""
LARGEST = 64 << 20
"""Bytes of the largest attestation: it holds less than a ledger, and names the soup's files."""


@frozen
class KeySignature:
    """A signature with the key of a PEM file, and what it says about that key."""

    signature: bytes
    hint: str | None
    """SHA-256 of the public key's PEM text; None where there is a certificate."""
    certificates: tuple[bytes, ...] = ()
    """In DER; the signing certificate comes first."""


@frozen
class SshSignature:
    """A signature by `ssh-keygen -Y sign`, without its armor."""

    signature: bytes


@frozen
class AttestationFile:
    """An attestation as it was read, whose signature is not yet checked."""

    label: str
    attestation: Attestation
    signature: KeySignature | SshSignature | None
    """None if it is not signed."""
    message: bytes
    """The bytes that the signature is of."""


def signed_message(payload: bytes) -> bytes:
    """The bytes that are signed for a payload: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def ssh_file(payload: bytes, signature: bytes) -> bytes:
    """The file of an attestation that an SSH key signed: a DSSE envelope."""
    return _file(_envelope(payload, signature))


def bundle_file(payload: bytes, signed: KeySignature) -> bytes:
    """The file of an attestation that a key or a certificate signed: a sigstore bundle."""
    if signed.certificates:
        chain = [{"rawBytes": _base64(each)} for each in signed.certificates]
        material: dict[str, Any] = {"x509CertificateChain": {"certificates": chain}}
    else:
        material = {"publicKey": {"hint": signed.hint}}
    return _file(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {**material, "tlogEntries": []},
            "dsseEnvelope": _envelope(payload, signed.signature),
        }
    )


def read_attestation(path: Path) -> AttestationFile:
    """The attestation in a file, its signature not yet checked.

    Raises InputError for an unreadable file, and for anything else than an attestation.
    """
    label = str(path)
    try:
        value = parse_object(decode(read_file(path, label, LARGEST)))
        return _parse(value, label)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"is not an attestation: {what[:300]}", path=label) from None


def _parse(value: Any, label: str) -> AttestationFile:
    if "_type" in value:
        return AttestationFile(label, attestation_of(value), None, b"")
    envelope = value["dsseEnvelope"] if "mediaType" in value else value
    if envelope["payloadType"] != PAYLOAD:
        raise ValueError("its payload is not an in-toto statement")
    payload = _decoded(envelope["payload"])
    (signature,) = envelope["signatures"]
    signed = _decoded(signature["sig"])
    attestation = attestation_of(parse_object(decode(payload)))
    message = signed_message(payload)
    if "mediaType" not in value:
        if not signed.startswith(SSH_MAGIC):
            raise ValueError("its signature is not one of an SSH key")
        return AttestationFile(label, attestation, SshSignature(signed), message)
    if value["mediaType"] != BUNDLE:
        raise ValueError("it is a bundle of another version")
    found = _key_signature(value["verificationMaterial"], signed)
    return AttestationFile(label, attestation, found, message)


def _key_signature(material: Any, signature: bytes) -> KeySignature:
    if "x509CertificateChain" in material:
        chain = material["x509CertificateChain"]["certificates"]
        certificates = tuple(_decoded(each["rawBytes"]) for each in chain)
        if not certificates:
            raise ValueError("it has no certificate")
        return KeySignature(signature, None, certificates)
    hint = material["publicKey"]["hint"]
    if not isinstance(hint, str):
        raise TypeError("it does not say which key signed it")
    return KeySignature(signature, hint)


def _envelope(payload: bytes, signature: bytes) -> dict[str, Any]:
    return {
        "payload": _base64(payload),
        "payloadType": PAYLOAD,
        "signatures": [{"sig": _base64(signature), "keyid": ""}],
    }


def _file(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("a text in base64 is missing")
    return base64.b64decode(text, validate=True)
