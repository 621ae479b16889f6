"""SSH keys sign attestations, and are told apart from other keys."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from attesting import attest, checked, edit, only_problem, set_weight

from soupctl.errors import InputError

SSH = shutil.which("ssh-keygen")
needs_ssh = pytest.mark.skipif(SSH is None, reason="ssh-keygen is not installed")


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
