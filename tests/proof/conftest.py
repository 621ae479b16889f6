"""A soup of two checkpoints, and an attestation of it that is signed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attesting import attest
from making import save
from revising import average
from signing_keys import save_key


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
