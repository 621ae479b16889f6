"""Images are bounded before they are decoded, and take a stated amount of memory at most."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from soupctl.diffusion.base import Conditioning
from soupctl.errors import InputError
from soupctl.images import decode
from soupctl.images.decode import LARGE_IMAGE, MOST_PIXELS, TooLarge, check_image
from soupctl.training.dataset import scan_dataset
from soupctl.training.loader import read_pixels

SLACK = 48 << 20
"""Bytes that differ from process to process."""
PLANES = {0: 1, 2: 3, 6: 4}


def png(width: int, height: int, depth: int = 8, color: int = 2, rows: int | None = None) -> bytes:
    """A black image with a white top, a thousand times smaller than its pixels.

    `rows` of it are there.
    """
    pixel = PLANES[color] * depth // 8
    packer = zlib.compressobj(9)
    there = range(height if rows is None else rows)
    values = [b"\0" if row else b"\xff" for row in there]
    packed = [packer.compress(b"\0" + value * (width * pixel)) for value in values]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", b"".join(packed) + packer.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def header_only(width: int, height: int) -> bytes:
    """A PNG file without pixels."""
    return png(width, height, rows=0)


def peak_of(statement: str, path: Path) -> int:
    """Bytes that a statement takes at its peak, beyond what its process had before."""
    code = (
        "import sys, resource; from pathlib import Path\n"
        "from soupctl.images.decode import check_image, decode_image\n"
        "path = Path(sys.argv[1]); data = path.read_bytes()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"{statement}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    return int(done.stdout) << 10


@pytest.mark.parametrize(("depth", "color"), [(8, 2), (16, 2), (16, 6), (16, 0), (8, 0)])
@pytest.mark.parametrize("statement", ["check_image(data, path)", "decode_image(data, path, 3)"])
def test_an_image_takes_at_most_12_bytes_a_pixel(statement, depth, color, tmp_path):
    side = 3000
    (tmp_path / "a.png").write_bytes(png(side, side, depth, color))

    assert peak_of(statement, tmp_path / "a.png") < 12 * side**2 + SLACK


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path):
    width = MOST_PIXELS // 100

    with pytest.raises(TooLarge, match=rf"a\.png: has {width} x 101 pixels, and an image has at"):
        check_image(header_only(width, 101), Path("a.png"))
    with pytest.raises(InputError, match="cannot be decoded"):
        # within the bounds, so its pixels are read, which are not there
        check_image(header_only(width, 100), Path("a.png"))


def test_small_files_of_many_pixels_are_refused_before_training(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(header_only(13_300, 13_300))

    with pytest.raises(InputError, match=r"2 images too large .*: a\.png, b\.png"):
        scan_dataset(tmp_path, Conditioning.NONE)


def tiff(changes: dict[int, int]) -> bytes:
    """A small TIFF file in tiles, with other values for some tags."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TIFF", tiffinfo={278: 8})
    data = bytearray(stream.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, place)
        for old, new, value in ((278, 322, changes.get(322)), (277, 277, changes.get(277))):
            if tag == old and value is not None:
                struct.pack_into("<HHII", data, place, new, 4, 1, value)
    return bytes(data)


@pytest.mark.parametrize("changes", [{322: 1 << 28}, {277: 60_000}])
def test_tiles_and_planes_are_bounded(changes):
    with pytest.raises(InputError) as refusal:
        check_image(tiff(changes), Path("a.tif"))

    assert "\n" not in refusal.value.message()
    assert check_image(tiff({}), Path("a.tif")).size == (8, 8)


def test_no_other_program_is_started_for_an_image(monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words: pytest.fail("was started"))
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"

    with pytest.raises(InputError, match=r"a\.png: cannot be decoded: is not a PNG"):
        check_image(page, Path("a.png"))


def test_a_file_beyond_the_bound_is_not_read(tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(decode.LARGEST_FILE + 1)

    with pytest.raises(InputError, match=r"1 image too large to be decoded safely: a\.png"):
        scan_dataset(tmp_path, Conditioning.NONE)


def test_of_large_images_one_is_decoded_at_a_time(monkeypatch, tmp_path):
    monkeypatch.setattr(decode, "LARGE_IMAGE", 10)
    assert LARGE_IMAGE > 10
    decoding, most, load = [0], [0], Image.Image.crop

    def crop(image, box):
        with_me = decoding[0] = decoding[0] + 1
        most[0] = max(most[0], with_me)
        waiting.wait(0.05)
        decoding[0] -= 1
        return load(image, box)

    waiting = threading.Event()
    monkeypatch.setattr(Image.Image, "crop", crop)
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(png(8, 8))
    scan_dataset(tmp_path, Conditioning.NONE)

    assert most == [1]


def test_a_long_and_narrow_image_is_cropped_without_scaling_all_of_it(tmp_path):
    values = np.arange(5000, dtype=np.uint16)[:, None] % 256
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "a.png")
    (sample,) = scan_dataset(tmp_path, Conditioning.NONE).samples

    found = read_pixels(sample, 512, 3, (0.5, 0.5))
    ends = [read_pixels(sample, 512, 3, (0.5, top)) for top in (0, 1)]

    assert found.shape == (3, 512, 512)
    assert abs((found + 1) * 127.5 - 2500 % 256).max() < 2
    assert (abs((ends[0] + 1) * 127.5).max() < 2, abs((ends[1] + 1) * 127.5 - 135).max() < 2) == (
        True,
        True,
    )


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (3, 1000)])
def test_the_crop_of_a_narrow_image_is_the_one_of_the_scaled_image(size, tmp_path, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (sample,) = scan_dataset(tmp_path, Conditioning.NONE).samples
    whole = read_pixels(sample, 16, 3, (0.3, 0.7))
    monkeypatch.setattr("soupctl.training.pixels.MOST_SCALED", 0)

    cropped = read_pixels(sample, 16, 3, (0.3, 0.7))

    # sides that the scaled image rounds to whole pixels move the crop by less than half a pixel
    assert np.abs(cropped - whole).mean() < 0.2


def test_an_image_of_several_frames_is_reported(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)

    found = scan_dataset(tmp_path, Conditioning.NONE)

    assert "1 image with several frames, of which the first is used" in found.notices
    assert read_pixels(found.samples[0], 8, 3, (0.5, 0.5))[0].min() == 1


@pytest.mark.parametrize("size", [(500, 2), (20_000, 3), (2, 250)])
def test_no_scaled_image_of_512_pixels_takes_more_than_200_mib(tmp_path, monkeypatch, size):
    Image.new("RGB", size, "red").save(tmp_path / "thin.png")
    (sample,) = scan_dataset(tmp_path, Conditioning.NONE).samples
    resize, made = Image.Image.resize, []

    def spy(image, size, *rest):
        made.append(4 * size[0] * size[1])
        return resize(image, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", spy)
    read_pixels(sample, 512, 3, (0.5, 0.5))

    assert max(made) < 200 << 20
