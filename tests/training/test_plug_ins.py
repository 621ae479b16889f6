"""HEIC and JPEG XL are read where Pillow's plug-ins for them are installed, and left out elsewhere.

Rule 1: stand-ins take the place of the plug-ins, which the tests do not need; the real ones are
tried where they are installed.
"""

from __future__ import annotations

import io
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soupctl.diffusion.base import Conditioning
from soupctl.errors import InputError
from soupctl.images import plug_ins
from soupctl.images.decode import MOST_PIXELS, TooLarge, check_image, decode_image
from soupctl.ledger.data_shard import images_digest, read_data_folder
from soupctl.merge.data_question import data_digests
from soupctl.training.dataset import scan_dataset

COLOR = (200, 40, 40)
PLUG_INS = {"pillow_heif": "HEIF", "pillow_jxl": "JXL"}
STAND_IN = """
import io
from PIL import Image, PngImagePlugin

def read(file, name):
    return PngImagePlugin.PngImageFile(io.BytesIO(file.read()[20:]))

def register_heif_opener():
    Image.register_open("{kind}", read, lambda begin: begin.startswith({begin!r}))

if "{kind}" == "JXL":
    register_heif_opener()
"""
HEIC = b"\x00\x00\x00\x14ftypheic\x00\x00\x00\x00heic"


def jxl(width: int, height: int) -> bytes:
    """The beginning of a JPEG XL file, 20 bytes: no small size, and no ratio."""
    bits = [0, *side(height), 0, 0, 0, *side(width)]
    packed = sum(bit << place for place, bit in enumerate(bits)).to_bytes(18, "little")
    return plug_ins.JXL_CODESTREAM + packed


def side(size: int) -> list[int]:
    """A size in the header, in its widest form: 30 bits."""
    return [1, 1, *(((size - 1) >> place) & 1 for place in range(30))]


def write(path: Path) -> None:
    """A red image that the stand-ins read."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), COLOR).save(file, "PNG")
    begin = HEIC if path.suffix in (".heic", ".HEIF") else jxl(8, 6)
    path.write_bytes(begin + file.getvalue())


@pytest.fixture
def data(tmp_path) -> Path:
    """An image, one that needs a plug-in, and one that needs the other."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    write(folder / "b.heic")
    write(folder / "c.jxl")
    return folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs stand-ins for the plug-ins with these modules, for the time of a test."""
    # registered formats are those of the process; Pillow's own are registered once
    Image.init()
    for name in ("OPEN", "ID"):
        monkeypatch.setattr(Image, name, getattr(Image, name).copy())
    place = tmp_path / "stand-ins"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    for module, kind in PLUG_INS.items():
        begin = HEIC[:12] if kind == "HEIF" else plug_ins.JXL_CODESTREAM
        (place / f"{module}.py").write_text(STAND_IN.format(kind=kind, begin=begin))
        monkeypatch.delitem(sys.modules, module, raising=False)

    def install(*modules: str) -> None:
        found = "soupctl.ledger.data_files.find_spec"
        monkeypatch.setattr(found, lambda module: module if module in modules else None)

    yield install
    for module in PLUG_INS:
        sys.modules.pop(module, None)


def test_pictures_are_images_where_their_plug_in_is_installed(data, installed):
    installed("pillow_heif", "pillow_jxl")

    found = scan_dataset(data, Conditioning.NONE)

    assert ["a.png", "b.heic", "c.jxl"] == [each.name for each in found.samples]
    assert [(8, 8), (8, 6), (8, 6)] == [each.size for each in found.samples]
    assert () == found.notices
    for sample in found.samples[1:]:
        pixels = np.asarray(decode_image(sample.path.read_bytes(), sample.path, 3))
        assert (pixels == COLOR).all()
    assert images_digest(data).digest == found.digest


def test_a_data_shard_is_known_again_whatever_plug_ins_training_had(data, installed):
    digests = set()
    for modules in ((), ("pillow_heif",), ("pillow_jxl",), tuple(PLUG_INS)):
        installed(*modules)
        digests.add(scan_dataset(data, Conditioning.NONE).digest)
    installed()

    known = data_digests(read_data_folder(data), "text")

    assert 4 == len(digests)
    assert digests == known.keys()
    assert [1, 2, 2, 3] == sorted(len(images) for images in known.values())


def test_without_a_plug_in_pictures_are_left_out_by_name(data, installed):
    installed()

    found = scan_dataset(data, Conditioning.NONE)

    assert ["a.png"] == [each.name for each in found.samples]
    (notice,) = found.notices
    assert "2 pictures left out, of a kind that is not read: b.heic, c.jxl" in notice
    assert "(pip install pillow-heif pillow-jxl-plugin reads such)" in notice
    (data / "a.png").unlink()
    with pytest.raises(InputError, match="contains no images"):
        images_digest(data)


def test_a_picture_that_its_plug_in_does_not_import_is_unreadable(data, installed):
    installed("pillow_heif", "pillow_jxl")
    (data.parent / "stand-ins/pillow_heif.py").write_text("import nowhere_at_all")

    with pytest.raises(InputError, match="1 image unreadable: b"):
        scan_dataset(data, Conditioning.NONE)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (HEIC, "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", None),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", None),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41mp42", None),
        (plug_ins.JXL_CODESTREAM, "JXL"),
        (plug_ins.JXL_BOXES, "JXL"),
        (b"\x89PNG", None),
        (b"", None),
    ],
)
def test_formats_are_told_by_the_first_bytes(begin, kind):
    assert plug_ins.format_of(begin) == kind


def test_an_image_that_a_table_names_and_no_plug_in_reads_is_said_to_be_one(data, installed):
    installed()
    rows = "".join(f'{{"file_name": "{name}"}}\n' for name in ("a.png", "b.heic", "gone.png"))
    (data / "metadata.jsonl").write_text(rows)

    with pytest.raises(InputError) as refused:
        scan_dataset(data, Conditioning.NONE)

    told = refused.value.message()
    assert "1 image of a kind that is not read: b.heic" in told
    assert "1 image in metadata.jsonl but missing: gone.png" in told


@pytest.mark.parametrize("is_there", [True, False])
def test_packed_pictures_are_unpacked_for_their_plug_in(data, installed, is_there):
    with tarfile.open(data / "x.tar", "w") as tar:
        for name in ("a.png", "b.heic", "c.jxl"):
            tar.add(data / name, name)
            (data / name).unlink()
    installed(*(PLUG_INS if is_there else ()))

    if is_there:
        assert 3 == len(scan_dataset(data, Conditioning.NONE).samples)
        return
    with pytest.raises(InputError, match="2 images of a kind that is not read: b"):
        scan_dataset(data, Conditioning.NONE)


@pytest.mark.parametrize("size", [(1, 1), (8, 6), (4096, 300), (11_586, 11_586), (1 << 30, 1)])
def test_the_size_of_jpeg_xl_is_read_from_its_header(size):
    assert plug_ins.jxl_header(jxl(*size)).size == size


@pytest.mark.parametrize(
    ("bits", "size"),
    [
        # small: height 8 (4 + 1), ratio 4:3
        ([1, 0, 0, 1, 0, 0, 1, 1, 0], (53, 40)),
        # small: height 8, then width 8 (2 + 1)
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], (24, 8)),
        # 9 bits: height 3 + 1, ratio 1:1
        ([0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], (4, 4)),
    ],
)
def test_small_sizes_and_ratios_of_jpeg_xl_are_read(bits, size):
    packed = sum(bit << place for place, bit in enumerate(bits)).to_bytes(4, "little")

    assert plug_ins.jxl_header(plug_ins.JXL_CODESTREAM + packed).size == size


# not all fields have their defaults, and there are more of them; orientation 1; no other size
MORE = [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("more", "is_animated"),
    [
        ([1], False),
        ([0, 0], False),
        ([*MORE, 0, 0], False),
        ([*MORE, 0, 1], True),
        ([*MORE[:-1], 1, 1, *[0] * 5, 1, 0, 0, 0, 1], True),
    ],
)
def test_an_animation_of_jpeg_xl_is_a_bad_image(data, installed, more, is_animated):
    installed("pillow_jxl")
    bits = [0, *side(6), 0, 0, 0, *side(8), *more]
    packed = sum(bit << place for place, bit in enumerate(bits)).to_bytes(18, "little")
    written = (data / "c.jxl").read_bytes()
    (data / "c.jxl").write_bytes(plug_ins.JXL_CODESTREAM + packed + written[20:])

    if is_animated:
        with pytest.raises(InputError, match="1 image that is an animation of JPEG XL"):
            scan_dataset(data, Conditioning.NONE)
    else:
        assert len(scan_dataset(data, Conditioning.NONE).samples) == 2


def test_the_codestream_of_jpeg_xl_may_be_in_several_boxes():
    stream = jxl(300, 200)
    boxes = plug_ins.JXL_BOXES + box(b"ftyp", b"jxl ") + box(b"Exif", b"x" * 99)
    parts = [box(b"jxlp", bytes(4) + stream[:3]), box(b"jxlp", bytes(4) + stream[3:])]

    assert plug_ins.jxl_header(boxes + b"".join(parts)).size == (300, 200)
    assert plug_ins.jxl_header(boxes + box(b"jxlc", stream)).size == (300, 200)


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


@pytest.mark.parametrize(
    "content",
    [
        plug_ins.JXL_CODESTREAM,
        jxl(8, 8)[:6],
        plug_ins.JXL_BOXES,
        plug_ins.JXL_BOXES + b"\0\0\0\1jxlc" + (3).to_bytes(8, "big"),
        plug_ins.JXL_BOXES + b"\0\0\0\3jxlc",
    ],
)
def test_a_malformed_header_of_jpeg_xl_is_a_bad_image(content, installed, tmp_path):
    installed("pillow_jxl")

    with pytest.raises(InputError, match="cannot be decoded"):
        check_image(content, tmp_path / "a.jxl")


def test_jpeg_xl_is_bounded_before_it_is_decoded(installed, tmp_path):
    installed("pillow_jxl")
    (tmp_path / "stand-ins/pillow_jxl.py").write_text(
        "from PIL import Image\n"
        "def read(file, name): raise AssertionError('decoded')\n"
        "Image.register_open('JXL', read, lambda begin: True)\n"
    )

    with pytest.raises(TooLarge, match=f"at most {MOST_PIXELS}"):
        check_image(jxl(11_586, 11_586), tmp_path / "a.jxl")


@pytest.mark.parametrize(("module", "kind"), sorted(PLUG_INS.items()))
def test_the_real_plug_ins_are_used_where_they_are_installed(tmp_path, module, kind):
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    plug_ins.register(kind)
    path = tmp_path / {"HEIF": "a.heic", "JXL": "a.jxl"}[kind]
    Image.new("RGB", (64, 40), COLOR).save(path, kind)

    (sample,) = scan_dataset(tmp_path, Conditioning.NONE).samples

    pixels = np.asarray(decode_image(path.read_bytes(), path, 3), int)
    assert (sample.size, pixels.shape) == ((64, 40), (40, 64, 3))
    assert np.abs(pixels - COLOR).max() <= 8
