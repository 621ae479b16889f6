"""Recognises files of other formats by their first bytes.

Rule 1: this only improves the message about a file that is refused anyway; its name is ignored.
Rule 2: a header is shorter than 4 GiB, so a safetensors file has zeros among its first eight bytes;
text has none.
"""

from __future__ import annotations

from ..pattern import pattern

OF_TORCH = "soupctl convert reads what torch saved, and runs nothing"
OF_GGUF = "soupctl convert makes safetensors of it"
BARE_PICKLE = "pickles can run code and are never opened; save it again with torch 1.6 or later"
CONVERT = "convert it first"
UNPACK = "decompress it first"
DOWNLOAD = "download the file itself"

SIGNATURES = (
    (
        b"version ",
        "is a git-lfs pointer, not the file it stands for",
        "run git lfs pull",
    ),
    (b"# xet version", "is a Xet pointer, not the file it stands for", DOWNLOAD),
    (b"GGUF", "is a GGUF file, not safetensors", OF_GGUF),
    (b"tjgg", "is a GGML file, not safetensors", CONVERT),
    (b"fmgg", "is a GGML file, not safetensors", CONVERT),
    (b"lmgg", "is a GGML file, not safetensors", CONVERT),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes, not safetensors", CONVERT),
    (b"\x93NUMPY", "is a NumPy array, not safetensors", CONVERT),
    (b"\x1f\x8b", "is gzip-compressed, not safetensors", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, not safetensors", UNPACK),
    (b"\xfd7zXZ\0", "is xz-compressed, not safetensors", UNPACK),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed, not safetensors", UNPACK),
    (b"BZh", "is bzip2-compressed, not safetensors", UNPACK),
    (b"Rar!\x1a\x07", "is a RAR archive, not safetensors", UNPACK),
    (
        b"\x00\x05\x16\x07",
        "is an AppleDouble file, which macOS writes beside another",
        "name the other",
    ),
    (b"\x89PNG\r\n\x1a\n", "is a PNG picture, not safetensors", None),
    (b"\xff\xd8\xff", "is a JPEG picture, not safetensors", None),
    (b"%PDF-", "is a PDF document, not safetensors", None),
)
"""The first bytes of a format, a description of the file, and advice."""

ZIP = b"PK\x03\x04"
# PROTO with its version, the first instruction of every pickle since 2003
PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# GLOBAL with a module and a name, the first instruction of most older ones
OLD_PICKLE = pattern(rb"\(*c[\w.]+\n[\w.]+\n")
QUOTED = 40
"""Characters of a text file that a message quotes."""


def recognise(first: bytes) -> tuple[str, str | None] | None:
    """The problem and the advice for a file that begins with these bytes; None if unknown."""
    for signature, what, advice in SIGNATURES:
        if first.startswith(signature):
            return what, advice
    if first.startswith(ZIP):
        return _zip(first)
    if first.startswith(PICKLE_STARTS) or OLD_PICKLE.match(first):
        return "is a pickle, not safetensors", BARE_PICKLE
    if first[4:8] == b"TFL3":
        return "is a TensorFlow Lite file, not safetensors", CONVERT
    if _is_onnx(first):
        return "is an ONNX file, not safetensors", CONVERT
    if len(first) >= 64 and not any(first):
        return "begins with zeros, as an unfinished download does", "download it again"
    return _text(first)


def _zip(first: bytes) -> tuple[str, str]:
    """The kind of a zip archive, by the name of its first file."""
    name = first[30 : 30 + int.from_bytes(first[26:28], "little")]
    if name.endswith(b".npy"):
        return "is a zip archive of NumPy arrays (npz), not safetensors", CONVERT
    return "is a zip archive with a pickle, as PyTorch writes, not safetensors", OF_TORCH


def _is_onnx(first: bytes) -> bool:
    """Whether the bytes begin as ONNX does: the version of its format, then its producer."""
    return (
        len(first) >= 8
        and first[0] == 0x08
        and 1 <= first[1] <= 32
        and first[2] == 0x12
        and 0 < first[3] < 64
        and first[4:8].isalnum()
    )


def _text(first: bytes) -> tuple[str, str] | None:
    """The kind of a text file: a web page, JSON or plain text, such as a server's answer."""
    text = first.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if not text or any(byte < 9 or 13 < byte < 32 for byte in first) or not first[:8].isascii():
        return None
    if text.startswith("<"):
        return "looks like a web page, not safetensors", DOWNLOAD
    quoted = repr(text[:QUOTED].rstrip())
    kind = "JSON text" if text.startswith(("{", "[")) else "text"
    return f"is {kind}, not safetensors: it begins with {quoted}", DOWNLOAD
