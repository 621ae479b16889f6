"""The signature of an attestation, with a key of either kind.

Rule 1: the file decides which kind it is: an SSH key begins as such, anything else is PEM.
Rule 2: only keys in PEM need the extra `sign`, so what uses them is imported where it is needed.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..errors import LimitError
from ..ledger.sealed import canonical
from ..storage.files import read_file
from . import ssh_keys
from .envelope import (
    AttestationFile,
    SshSignature,
    bundle_file,
    signed_message,
    ssh_file,
)
from .model_signature import model_statement
from .signature_error import SignatureProblem
from .soup_files import SoupFiles
from .statement import Attestation, encode_statement

PEM = b"-----BEGIN"


def require_signing(key: Path) -> None:
    """Raise LimitError if what signs with a key is not installed, before there is anything to sign.

    Raises InputError if the key is unreadable.
    """
    if ssh_keys.is_ssh_key(key):
        ssh_keys.require_program()
    else:
        _require_extra()


def _require_extra() -> None:
    if find_spec("cryptography") is None:
        what = "this needs a package that is not installed: cryptography"
        raise LimitError(what, advice="pip install 'soupctl[sign]'")


def signed_file(
    attestation: Attestation, files: SoupFiles, key: Path, certificate: Path | None
) -> bytes:
    """The file of an attestation that is signed with a key; raises the errors of what signs it."""
    if ssh_keys.is_ssh_key(key):
        payload = canonical(encode_statement(attestation)).encode()
        return ssh_file(payload, ssh_keys.sign(signed_message(payload), key).signature)
    _require_extra()
    from . import pem_keys

    statement = model_statement(
        attestation, files.name, is_folder=files.is_folder, beside=files.beside
    )
    payload = canonical(statement).encode()
    return bundle_file(payload, pem_keys.sign(signed_message(payload), key, certificate))


def check_signature(file: AttestationFile, trusted: Path | None) -> str:
    """Whose signature an attestation has, in words.

    Raises SignatureProblem for one that is not proven, and the errors of what checks it.
    """
    if file.signature is None:
        if trusted is not None:
            raise SignatureProblem(f"is not signed, so {trusted} proves nothing")
        return "not signed, so anyone can have written it"
    if trusted is None:
        raise SignatureProblem("is signed, and no key is given to check that with")
    is_pem = read_file(trusted).lstrip().startswith(PEM)
    if isinstance(file.signature, SshSignature):
        if is_pem:
            what = f"is signed with an SSH key, and {trusted} is another kind of key"
            raise SignatureProblem(what, refutes=True)
        return ssh_keys.check(file.message, file.signature, trusted)
    if not is_pem and ssh_keys.is_ssh_key(trusted):
        raise SignatureProblem(f"is signed with no SSH key, but {trusted} is one", refutes=True)
    _require_extra()
    from . import pem_keys

    return pem_keys.check(file.message, file.signature, trusted)
