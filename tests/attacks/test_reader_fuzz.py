"""Every reader of what others wrote, on texts that are bent: a value or a refusal of one line.

tools/fuzz.py runs the same readers for as long as one likes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# the readers are beside this file
sys.path.append(str(Path(__file__).parent))

from readers import READERS, attempt

PIECES = (
    *(b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b":", b",", b"=", b"\n", b"\r", b" ", b"\0", b"@"),
    *(b"null", b"true", b"false", b"NaN", b"-Infinity", b"[]", b"{}", b'""', b"0", b"-1", b"1e400"),
    *(
        b"9" * 25,
        b"9" * 5000,
        b"1/0",
        b"-0",
        b"2.0",
        b"1e-400",
        b"0x1F",
        b"1979-05-27",
        b"..",
        b"/",
    ),
    *(
        b"\xff",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"\\u0000",
        "٣".encode(),
        "\u2028".encode(),
        b"\x1b[2J",
    ),
    *(b"[" * 200, b'{"a":' * 200, b"[[" * 1500, b'"a":1,"a":2', b"*" * 500, b"[!", b"x" * 3000),
    *(
        b"digest",
        b"format",
        b"1000000000000",
        b"blake3:" + b"0" * 64,
        b"a.b.c = 1",
        b"[a]",
        b"[[a]]",
    ),
)

PLACES = 6
EXAMPLES = 100


@st.composite
def bent(draw: st.DrawFn, sound: tuple[bytes, ...]) -> bytes:
    """A sound text with a few pieces replaced, doubled, dropped or put in, and a bit flipped."""
    raw = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(raw)))
        stop = start + draw(st.sampled_from([0, 0, 1, 2, 5, 20]))
        kept = raw[start:stop]
        piece = draw(
            st.sampled_from(PIECES) | st.just(kept * 2) | st.just(b"") | st.binary(max_size=4)
        )
        raw = raw[:start] + piece + raw[stop:]
    if raw and draw(st.booleans()):
        at = draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + bytes([raw[at] ^ 1 << draw(st.integers(0, 7))]) + raw[at + 1 :]
    return raw


@pytest.mark.parametrize("name", READERS)
def test_sound_texts_are_read(name):
    assert all(attempt(name, raw) for raw in READERS[name].sound)


@pytest.mark.parametrize("name", READERS)
def test_bent_texts_are_read_or_refused_in_one_line(name, record_property):
    @settings(max_examples=EXAMPLES)
    @given(bent(READERS[name].sound) | st.binary(max_size=40))
    def fuzzed(raw: bytes) -> None:
        attempt(name, raw)

    fuzzed()
    record_property("examples", EXAMPLES)


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: repr(piece[:12]))
def test_a_piece_at_every_place_is_read_or_refused(piece):
    for name, reader in READERS.items():
        for sound in reader.sound:
            for place in range(0, len(sound) + 1, max(1, len(sound) // PLACES)):
                attempt(name, sound[:place] + piece + sound[place:])
