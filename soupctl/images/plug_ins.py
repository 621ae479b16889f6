"""Plug-ins of Pillow that read HEIC and JPEG XL, if they are installed.

Rule 1: a plug-in is imported when the first file of its format is read, and only then.
Rule 2: the header of a JPEG XL image is read here, because its plug-in decodes a file to open it,
and shows the last frame of an animation without saying so.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

HEIF, JXL = "HEIF", "JXL"
"""Pillow's names of the formats."""
JXL_CODESTREAM, JXL_BOXES = b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n"
"""The first bytes of a JPEG XL file without boxes, and with them."""
FILE_TYPE, MOST_TYPES = b"ftyp", 256
"""The box that lists a file's types, and the most bytes of it that are read."""
HEIF_TYPES = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
AVIF_TYPES = frozenset((b"avif", b"avis"))
"""The types that Pillow reads by itself."""
BITS = (9, 13, 18, 30)
"""The widths of a large size in the header of JPEG XL."""
RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width by height in the header of JPEG XL; 0 if the width is given."""
LONGEST_HEADER = 32
"""More bytes than the fields that are read take."""


def format_of(data: bytes) -> str | None:
    """The format of a file that Pillow needs a plug-in for; None for any other."""
    if data.startswith((JXL_CODESTREAM, JXL_BOXES)):
        return JXL
    if data[4:8] != FILE_TYPE:
        return None
    # after the first type there is its version
    places = (8, *range(16, min(int.from_bytes(data[:4], "big"), MOST_TYPES), 4))
    types = {data[place : place + 4] for place in places}
    return HEIF if types & HEIF_TYPES and not types & AVIF_TYPES else None


def register(kind: str) -> bool:
    """Whether Pillow can read a format from now on: its plug-in is installed."""
    try:
        if kind == JXL:
            import_module("pillow_jxl")
        else:
            import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """What the header of a JPEG XL image says."""

    size: tuple[int, int]
    """Width and height in pixels, as stored."""
    is_animated: bool


def jxl_header(data: bytes) -> JxlHeader:
    """The header of a JPEG XL image; ValueError if it is malformed.

    The fields are those of SizeHeader and ImageMetadata in ISO/IEC 18181-1.
    """
    start = data[: len(JXL_CODESTREAM) + LONGEST_HEADER]
    header = start if data.startswith(JXL_CODESTREAM) else _codestream(data)
    if not header.startswith(JXL_CODESTREAM):
        raise ValueError("has no JPEG XL codestream")
    bits = _Bits(header[len(JXL_CODESTREAM) :])
    size = _size(bits)
    # not all fields have their defaults, and there are more than those of every image
    if bits.take(1) or not bits.take(1):
        return JxlHeader(size, is_animated=False)
    bits.take(3)  # the orientation
    if bits.take(1):
        _size(bits)  # for showing it
    # an image for a preview, whose size has yet another form, is refused like an animation
    has_preview = bits.take(1)
    return JxlHeader(size, is_animated=bool(has_preview or bits.take(1)))


def _size(bits: _Bits) -> tuple[int, int]:
    """Width and height, which are the next field."""
    is_small = bool(bits.take(1))

    def side() -> int:
        return 8 * (bits.take(5) + 1) if is_small else bits.take(BITS[bits.take(2)]) + 1

    height = side()
    across, down = RATIOS[bits.take(3)]
    return (height * across // down if across else side()), height


class _Bits:
    """Bits of a header, the least significant of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """The number that the next bits are; ValueError if there are too few."""
        if count > self._left:
            raise ValueError("is truncated")
        found = self._value & ((1 << count) - 1)
        self._value, self._left = self._value >> count, self._left - count
        return found


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream, which may be in several boxes."""
    found, at, wanted = b"", 0, len(JXL_CODESTREAM) + LONGEST_HEADER
    while at + 8 <= len(data) and len(found) < wanted:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + size if size else len(data)
        if size and size < head:
            raise ValueError("has a malformed box")
        if kind in (b"jxlc", b"jxlp"):
            # a part begins with its number
            begin = at + head + (4 if kind == b"jxlp" else 0)
            found += data[begin : min(end, begin + wanted)]
        at = end
    return found[:wanted]
