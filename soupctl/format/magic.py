"""Recognises files of other formats by their first bytes.

Rule 1: this only improves the message about a file that is refused anyway; names play no part.
"""

from __future__ import annotations

SIGNATURES = (
    (
        b"PK\x03\x04",
        "is a zip archive, as PyTorch writes, not safetensors",
        "pickles can run code and are never opened; convert it first",
    ),
    (
        b"version ",
        "is a git-lfs pointer, not the file it stands for",
        "run git lfs pull",
    ),
    (b"GGUF", "is a GGUF file, not safetensors", "convert it first"),
    (b"\x1f\x8b", "is gzip-compressed, not safetensors", "decompress it first"),
    (b"<", "looks like a web page, not safetensors", "download the file itself"),
)
PICKLE = (
    "is a pickle, not safetensors",
    "pickles can run code and are never opened; convert it first",
)
# PROTO with its version, the first instruction of every pickle since 2003
PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))


def recognise(first: bytes) -> tuple[str, str] | None:
    """The problem and the advice for a file that begins with these bytes; None if unknown."""
    for signature, what, advice in SIGNATURES:
        if first.lstrip().startswith(signature):
            return what, advice
    return PICKLE if first.startswith(PICKLE_STARTS) else None
