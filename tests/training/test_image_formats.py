"""Images of all formats are read by their content, and gray of 16 bits or floats as it is meant."""

from __future__ import annotations

import struct
from zlib import compress, crc32

import numpy as np
import pytest
from data_folders import NONE, dataset, refusal
from PIL import Image
from PIL.PngImagePlugin import PngInfo

decode = pytest.importorskip("soupctl.images.decode")


@pytest.mark.parametrize("ending", ["gif", "avif", "apng", "jfif"])
def test_more_formats_of_images_are_read(tmp_path, ending):
    kind = {"apng": "PNG", "jfif": "JPEG"}.get(ending, ending.upper())
    Image.new("RGB", (8, 8), (200, 40, 40)).save(tmp_path / f"a.{ending}", kind)

    (sample,) = dataset.scan_dataset(tmp_path, NONE).samples
    pixels = np.asarray(decode.decode_image(sample.path.read_bytes(), sample.path, 3), int)

    assert np.abs(pixels - [200, 40, 40]).max() <= 8


def test_an_image_is_read_by_its_content_whatever_its_name_ends_in(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", "AVIF")

    assert len(dataset.scan_dataset(tmp_path, NONE).samples) == 1


RAMP = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
WIDE = {
    "float of 0 to 1": RAMP,
    "float of 0 to 255": RAMP * 255,
    "float of 0 to 65535": RAMP * 65_535,
    "16 bits": (RAMP * 65_535).astype(np.uint16),
    "32 bits": (RAMP * 65_535).astype(np.int32),
    "32 bits of 0 to 255": (RAMP * 255).astype(np.int32),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", WIDE)
def test_wide_gray_from_black_to_white_arrives_from_black_to_white(tmp_path, kind, channels):
    path = tmp_path / "a.tif"
    Image.fromarray(WIDE[kind]).save(path)

    decode.check_image(path.read_bytes(), path)
    values = np.asarray(decode.decode_image(path.read_bytes(), path, channels), np.float64)

    expected = np.round(RAMP.astype(np.float64) * 255)
    assert np.abs(values.reshape(8, 8, channels) - expected[..., None]).max() <= 1


@pytest.mark.parametrize(
    "values",
    [
        *(RAMP - 2, RAMP * 1e6, RAMP * np.nan, RAMP + np.inf),
        # these would be nearly black
        *(RAMP * 3, (RAMP * 1000).astype(np.int32), (RAMP * 4095).astype(np.uint16)),
    ],
)
def test_wide_gray_without_a_usual_white_is_a_bad_image(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")

    assert "1 image unreadable: a.tif" in refusal(tmp_path, NONE)


def test_wide_gray_whose_largest_value_is_black_is_a_bad_image(tmp_path):
    Image.fromarray(WIDE["16 bits"]).save(tmp_path / "a.tif", tiffinfo={262: 0})

    assert "1 image unreadable: a.tif" in refusal(tmp_path, NONE)


def wide_png(most: int, colour: int = 2) -> bytes:
    """A PNG file of 8 x 8 pixels with 16 bits for each colour, from black to `most`."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))

    planes = {2: 3, 6: 4}[colour]
    rows = b"".join(
        b"\0" + (struct.pack(">H", most * row // 7) * 3 + b"\xff\xff" * (planes - 3)) * 8
        for row in range(8)
    )
    head = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("colour", [2, 6])
@pytest.mark.parametrize("most", [255, 4095])
def test_a_colour_image_of_fewer_bits_than_it_has_room_for_is_a_bad_image(tmp_path, most, colour):
    (tmp_path / "a.png").write_bytes(wide_png(most, colour))

    assert "a.png (has 16 bits for each colour, and is nearly black)" in refusal(tmp_path, NONE)


@pytest.mark.parametrize("colour", [2, 6])
def test_a_colour_image_of_16_bits_is_read(tmp_path, colour):
    (tmp_path / "a.png").write_bytes(wide_png(65_535, colour))

    assert 1 == len(dataset.scan_dataset(tmp_path, NONE).samples)


def test_a_long_compressed_text_in_an_image_does_not_matter(tmp_path):
    texts = PngInfo()
    texts.add_text("workflow", "x" * (1 << 21), zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=texts)

    assert 1 == len(dataset.scan_dataset(tmp_path, NONE).samples)
