"""Why the signature of an attestation is not proven."""

from __future__ import annotations


class SignatureProblem(Exception):
    """A signature that proves nothing, or disproves what it claims."""

    def __init__(self, what: str, *, refutes: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.refutes = refutes
