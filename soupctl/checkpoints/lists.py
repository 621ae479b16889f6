"""Text lists that commands read and write: paths, and digests with paths, one per line.

Rule 1: opening never blocks, and the length of a list is limited.
Rule 2: every possible file name can be written to a list and read back.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from ..errors import InputError
from ..pattern import pattern
from ..storage.regular import KINDS, reading
from .open import STREAM

LONGEST = 100_000_000
PIECE = 1 << 20
ESCAPED = "\\"
"""The first character of a line with an escaped name, as in the lists of GNU sha256sum."""
LETTERS = {b"\\": "\\\\", b"\n": "\\n", b"\r": "\\r"}
BYTES = {text: raw for raw, text in LETTERS.items()}
ESCAPE = pattern(r"\\(?:[\\nr]|x[0-9a-f]{2})")


def read_list(source: str, end: bytes = b"\n") -> list[str]:
    """The non-empty entries of the list `source`: a file, a pipe, or `-` for standard input.

    Bytes are decoded as by `os.fsdecode`. Raises InputError if the source is neither a file nor a
    pipe, is unreadable, or has more than a hundred million bytes.
    """
    with reading(source):
        raw = _read(sys.stdin.fileno(), source) if source == STREAM else _read_file(source)
    return [os.fsdecode(entry) for entry in raw.split(end) if entry]


def _read_file(source: str) -> bytes:
    # checked before it is opened, because opening a device can have side effects
    _require_file_or_pipe(Path(source).stat(), source)
    # otherwise, opening a FIFO would wait for a writer
    fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _require_file_or_pipe(os.fstat(fd), source)
        os.set_blocking(fd, True)
        return _read(fd, source)
    finally:
        os.close(fd)


def _require_file_or_pipe(state: os.stat_result, source: str) -> None:
    kind = stat.S_IFMT(state.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFIFO):
        raise InputError(f"is {KINDS.get(kind, 'special')}, not a file or a pipe", path=source)


def _read(fd: int, source: str) -> bytes:
    read = bytearray()
    while piece := os.read(fd, PIECE):
        read += piece
        if len(read) > LONGEST:
            raise InputError(f"has more than {LONGEST} bytes, too many for a list", path=source)
    return bytes(read)


def escape(name: str, encoding: str) -> tuple[str, str]:
    r"""The prefix of a name's line, and the name as the line has it.

    For a name without backslashes, of printable characters that `encoding` preserves, these are an
    empty prefix and the name itself. Otherwise the prefix is a backslash, a backslash in the name
    is doubled, and each byte of other characters is `\n`, `\r` or `\x` with two hexadecimal
    digits.
    """
    escaped = "".join(
        letter if _is_plain(letter, encoding) else _escape(os.fsencode(letter)) for letter in name
    )
    return ("", name) if escaped == name else (ESCAPED, escaped)


def _is_plain(letter: str, encoding: str) -> bool:
    same = letter.encode(encoding, "ignore") == os.fsencode(letter)
    return same and letter != ESCAPED and letter.isprintable()


def _escape(raw: bytes) -> str:
    return LETTERS.get(raw) or "".join(f"\\x{byte:02x}" for byte in raw)


def unescape(name: str) -> str:
    """The name that a line beginning with a backslash holds; ValueError if it holds none."""
    if ESCAPED in ESCAPE.sub("", name):
        raise ValueError(name)
    raw = b""
    plain = 0
    for found in ESCAPE.finditer(name):
        text = found.group()
        raw += os.fsencode(name[plain : found.start()])
        raw += BYTES.get(text) or bytes.fromhex(text.removeprefix("\\x"))
        plain = found.end()
    return os.fsdecode(raw + os.fsencode(name[plain:]))
