"""Signing and checking with keys and certificates in PEM files, as OpenSSF model signing does.

Rule 1: the keys are elliptic-curve keys, and the hash is as long as the curve: SHA-256 for P-256.
Rule 2: a certificate is checked for the time from which it is valid, since nothing proves when a
signature was made.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from ..errors import InputError
from ..storage.files import read_file
from .envelope import KeySignature
from .signature_error import SignatureProblem

CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The curves of keys, and the hash that goes with each."""
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
MAKE_KEY = "openssl ecparam -name prime256v1 -genkey -noout makes one"


def sign(message: bytes, key: Path, certificate: Path | None) -> KeySignature:
    """The signature of a message with a private key, and the chain of its certificate if given.

    Raises InputError for files that are no such key or certificate, and for a certificate of
    another key.
    """
    private = _private_key(key)
    public = private.public_key()
    signature = private.sign(message, ECDSA(_hash_of(public, key)))
    if certificate is None:
        return KeySignature(signature, _hint(public))
    chain = _certificates(certificate)
    if chain[0].public_key() != public:
        what = f"its first certificate is not for the key {key}"
        raise InputError(what, path=certificate)
    return KeySignature(signature, None, tuple(map(_der, chain)))


def check(message: bytes, signed: KeySignature, trusted: Path) -> str:
    """Whose signature it is, in words; `trusted` is a public key, or certificates to trust.

    Raises SignatureProblem for a signature that is not proven, InputError for a file that holds
    neither.
    """
    data = read_file(trusted)
    if CERTIFICATE in data:
        if not signed.certificates:
            raise SignatureProblem("is signed with a key, and has no certificate")
        leaf = _trusted_leaf(signed.certificates, _certificates(trusted))
        _check(message, signed.signature, leaf.public_key(), trusted)
        return f"signed with a certificate that {trusted} vouches for"
    public = _public_key(data, trusted)
    if signed.hint is not None and signed.hint != _hint(public):
        raise SignatureProblem(f"is signed with another key than {trusted}", refutes=True)
    _check(message, signed.signature, public, trusted)
    return f"signed with the key of {trusted}"


def _check(message: bytes, signature: bytes, public: Any, path: Path) -> None:
    hashing = _hash_of(public, path)
    try:
        public.verify(signature, message, ECDSA(hashing))
    except InvalidSignature:
        what = "has a signature that does not fit: it was changed after it was signed, or the key"
        raise SignatureProblem(f"{what} is another than {path}", refutes=True) from None


def _trusted_leaf(chain: tuple[bytes, ...], roots: list[Any]) -> Any:
    """The signing certificate of a chain that begins with one and leads to a trusted one."""
    try:
        leaf, *others = map(x509.load_der_x509_certificate, chain)
    except ValueError:
        raise SignatureProblem("has a certificate that is not one", refutes=True) from None
    anything = ExtensionPolicy.permit_all()
    verifier = (
        PolicyBuilder()
        .store(Store(roots))
        .time(leaf.not_valid_before_utc)
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=anything)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, [each for each in others if each not in roots])
    except VerificationError as error:
        what = f"is signed with a certificate that is not trusted: {error}"
        raise SignatureProblem(what, refutes=True) from None
    if not _may_sign(leaf):
        raise SignatureProblem("is signed with a certificate that is not for that", refutes=True)
    return leaf


def _may_sign(leaf: Any) -> bool:
    try:
        if leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return True
    except x509.ExtensionNotFound:
        pass
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CODE_SIGNING in usage


def _private_key(path: Path) -> EllipticCurvePrivateKey:
    try:
        found = load_pem_private_key(read_file(path), None)
    except TypeError:
        raise InputError("is encrypted, and soupctl asks for no password", path=path) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("is not a private key in PEM", path=path, advice=MAKE_KEY) from None
    if not isinstance(found, EllipticCurvePrivateKey):
        raise InputError("is not an elliptic-curve key", path=path, advice=MAKE_KEY)
    return found


def _public_key(data: bytes, path: Path) -> EllipticCurvePublicKey:
    try:
        found = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        advice = "openssl pkey -in KEY -pubout gives that of a private key"
        raise InputError("is not a public key in PEM", path=path, advice=advice) from None
    if not isinstance(found, EllipticCurvePublicKey):
        raise InputError("is not an elliptic-curve key", path=path)
    return found


def _certificates(path: Path) -> list[Any]:
    try:
        return list(x509.load_pem_x509_certificates(read_file(path)))
    except ValueError:
        raise InputError("holds no certificate in PEM", path=path) from None


def _hash_of(public: Any, path: Path) -> Any:
    name = getattr(getattr(public, "curve", None), "name", None)
    if name not in CURVES:
        raise InputError("is not a key of the curve P-256, P-384 or P-521", path=path)
    return getattr(hashes, CURVES[name])()


def _hint(public: EllipticCurvePublicKey) -> str:
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(text).hexdigest()


def _der(certificate: Any) -> bytes:
    return bytes(certificate.public_bytes(Encoding.DER))
