"""An image is decoded once; the next scan reads what was found, and notices each change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from soupctl.diffusion.base import Conditioning
from soupctl.errors import InputError, OutputError
from soupctl.training import image_checks, kept_scan
from soupctl.training.dataset import Dataset, read_unchanged, scan_dataset


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the images that were decoded."""
    names: list[str] = []

    def check(data: bytes, path: Path):
        names.append(path.name)
        return real(data, path)

    real = image_checks.check_image
    monkeypatch.setattr(image_checks, "check_image", check)
    # the files of a test are young
    monkeypatch.setattr(kept_scan, "SETTLED", -(10**12))
    return names


def image(path: Path, colour: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(exist_ok=True)
    # not compressed, so that another colour takes as many bytes
    Image.new("L", size, colour).save(path.with_suffix(".bmp"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour, name in enumerate(("a", "b", "c")):
        image(tmp_path / "data" / name, colour, (8, 6))
        (tmp_path / "data" / f"{name}.txt").write_text(f"caption {name}")
    return tmp_path / "data"


def scan(folder: Path, **more) -> Dataset:
    return scan_dataset(folder, Conditioning.TEXT, **more)


def test_a_second_scan_finds_the_same_and_decodes_nothing(folder, decoded):
    first = scan(folder)
    assert ["a.bmp", "b.bmp", "c.bmp"] == sorted(decoded)
    decoded.clear()

    assert (first, []) == (scan(folder), decoded)


@pytest.mark.parametrize("change", ["same size and times", "added", "removed", "renamed"])
def test_a_change_of_the_images_is_noticed(folder, decoded, change):
    first = scan(folder)
    decoded.clear()
    times = os.stat(folder / "b.bmp")
    if change == "same size and times":
        image(folder / "b", 200, (8, 6))
        os.utime(folder / "b.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert times.st_size == os.stat(folder / "b.bmp").st_size
    elif change == "added":
        image(folder / "d", 9)
        (folder / "d.txt").write_text("caption d")
    elif change == "removed":
        (folder / "b.bmp").unlink()
    else:
        (folder / "b.bmp").rename(folder / "d.bmp")
        (folder / "d.txt").write_text("caption d")

    second = scan(folder)

    expected = {"same size and times": ["b.bmp"], "removed": []}.get(change, ["d.bmp"])
    assert expected == decoded
    assert first.digest != second.digest
    kept_scan.forget_scan(folder)
    assert second == scan(folder)


def test_captions_are_read_anew_and_bad_images_are_reported_anew(folder, decoded):
    (folder / "bad.png").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(InputError, match=r"1 image unreadable: bad\.png"):
            scan(folder)
    (folder / "bad.png").unlink()
    (folder / "a.txt").write_text("another caption")

    assert ("another caption",) == scan(folder).samples[0].captions


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-9],
        lambda data: b"{}\n" + data,
        lambda data: data.replace(b'"format": 3', b'"format": 1'),
        lambda data: data.replace(b"blake3", b"\xff"),
        lambda data: data[: data.index(b"\n")] + b'\n["a.bmp", "blake3:0"]\n',
        lambda data: data[: data.index(b"\n")] + b'\n["a.bmp", 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]\n',
        lambda data: b"[" * 100_000,
    ],
)
def test_a_damaged_scan_is_as_none(folder, decoded, scans, damage):
    first = scan(folder)
    (kept,) = scans.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    decoded.clear()

    assert first == scan(folder)
    assert 3 == len(decoded)


def test_without_a_place_to_keep_it_a_scan_is_made_each_time(folder, decoded, monkeypatch, scans):
    scans.parent.write_text("a file where a folder would be")
    assert scan(folder) == scan(folder)
    monkeypatch.setattr(kept_scan, "cache_folder", lambda: None)
    assert scan(folder) == scan(folder)
    assert 12 == len(decoded)


def test_a_file_that_changed_a_moment_before_the_scan_is_decoded_again(
    folder, decoded, monkeypatch
):
    monkeypatch.setattr(kept_scan, "SETTLED", 10**12)
    scan(folder)
    scan(folder)

    assert 6 == len(decoded)


def test_a_change_without_a_trace_is_noticed_when_the_image_is_used(folder, decoded, monkeypatch):
    found = scan(folder)
    image(folder / "b", 200, (8, 6))
    monkeypatch.setattr(kept_scan.FileIdentity, "is_at", lambda self, path: True)
    assert found == scan(folder)

    with pytest.raises(OutputError, match=r"b\.bmp: changed during training"):
        read_unchanged(found.samples[1])

    assert found.digest != scan(folder).digest


def test_only_the_newest_scans_are_kept(tmp_path, decoded, monkeypatch, scans):
    monkeypatch.setattr(kept_scan, "MOST_SCANS", 2)
    for name in "abc":
        image(tmp_path / name / "x", 3)
        scan_dataset(tmp_path / name, Conditioning.NONE)
        kept = sorted(scans.iterdir(), key=lambda each: each.stat().st_mtime_ns)
        for number, path in enumerate(kept):
            os.utime(path, (number, number))

    assert 2 == len(list(scans.iterdir()))
    assert kept_scan.read_scan(tmp_path / "c").keys() == {"x.bmp"}


def test_the_size_of_an_image_is_that_of_the_upright_one(tmp_path):
    for orientation in (1, 6):
        turned = Image.Exif()
        turned[0x0112] = orientation
        Image.new("RGB", (20, 10)).save(tmp_path / f"{orientation}.jpg", exif=turned)

    sizes = [each.size for each in scan_dataset(tmp_path, Conditioning.NONE).samples]

    assert [(20, 10), (10, 20)] == sizes


def test_scans_are_kept_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path / "soupctl" / "scans" == kept_scan.cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert tmp_path / "home" / ".cache" / "soupctl" / "scans" == kept_scan.cache_folder()
