"""Signing and checking with SSH keys, by the program `ssh-keygen`.

Rule 1: it never asks for a passphrase: it gets no terminal; a key with one is used by its agent.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from ..errors import InputError, LimitError
from ..storage.files import read_file
from .envelope import SshSignature
from .signature_error import SignatureProblem

PROGRAM = "ssh-keygen"
NAMESPACE = "soupctl"
"""What the signatures are for, so that none of another purpose counts."""
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
PRIVATE = b"-----BEGIN OPENSSH PRIVATE KEY-----"
PUBLIC = (b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-")
WIDTH = 70


def is_ssh_key(path: Path) -> bool:
    """Whether a file is an SSH key, private or public; InputError if it is unreadable."""
    return read_file(path).lstrip().startswith((PRIVATE, *PUBLIC))


def sign(message: bytes, key: Path) -> SshSignature:
    """The signature of a message with an SSH key; that of a public key is made by the agent.

    Raises InputError if the key cannot be used, LimitError without `ssh-keygen`.
    """
    done = _run(["-Y", "sign", "-n", NAMESPACE, "-f", str(key)], message)
    if done.returncode:
        raise InputError(f"cannot be used to sign: {_said(done)}", path=key)
    return SshSignature(_unarmored(done.stdout.decode()))


def check(message: bytes, signed: SshSignature, trusted: Path) -> str:
    """Whose signature it is, in words; `trusted` is a public key or a list of allowed signers.

    Raises SignatureProblem for a signature that is not proven, InputError for an unreadable file,
    LimitError without `ssh-keygen`.
    """
    data = read_file(trusted)
    is_key = data.lstrip().startswith(PUBLIC)
    with TemporaryDirectory(prefix="soupctl-") as folder:
        signature, signers = Path(folder, "signature"), Path(folder, "signers")
        signature.write_text(_armored(signed.signature))
        # any name is allowed for the only key
        signers.write_bytes(b"* " + data.lstrip() if is_key else data)
        place = ["-s", str(signature), "-f", str(signers)]
        found = _run(["-Y", "find-principals", *place], b"")
        names = found.stdout.decode(errors="replace").splitlines()
        if found.returncode or not names:
            whose = f"another key than {trusted}" if is_key else f"a key that {trusted} lacks"
            raise SignatureProblem(f"is signed with {whose}", refutes=True)
        name = names[0]
        done = _run(["-Y", "verify", "-n", NAMESPACE, "-I", name, *place], message)
    if done.returncode:
        what = "has a signature that does not fit: it was changed after it was signed, or the key"
        raise SignatureProblem(f"{what} is not for that ({_said(done)})", refutes=True)
    return f"signed with the key of {trusted}" if is_key else f"signed by {name}"


def require_program() -> str:
    """The path of `ssh-keygen`; LimitError without it."""
    program = which(PROGRAM)
    if program is None:
        raise LimitError(f"this needs {PROGRAM}, which is not installed", advice="install OpenSSH")
    return program


def _run(words: Sequence[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    program = require_program()
    # a session of its own has no terminal to ask for a passphrase
    return subprocess.run(  # noqa: S603
        [program, *words], input=given, capture_output=True, check=False, start_new_session=True
    )


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """What the program said, as one line."""
    lines = (done.stderr or done.stdout).decode(errors="replace").split("\n")
    kept = [each.strip(" @\r") for each in lines]
    return "; ".join(each for each in kept if each)[:300] or "it says nothing"


def _armored(signature: bytes) -> str:
    text = base64.b64encode(signature).decode()
    lines = [text[begin : begin + WIDTH] for begin in range(0, len(text), WIDTH)]
    return "\n".join([BEGIN, *lines, END, ""])


def _unarmored(text: str) -> bytes:
    inside = text.partition(BEGIN)[2].partition(END)[0]
    return base64.b64decode("".join(inside.split()))
