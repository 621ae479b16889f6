"""Files among images that are none, links and pipes are ignored, or named in the refusal."""

from __future__ import annotations

import os

import pytest
from data_folders import LABEL, NONE, TEXT, dataset, images, refusal

from soupctl.ledger.data_shard import images_digest


def test_a_folder_of_pictures_that_are_not_read_names_what_converts_them(tmp_path):
    (tmp_path / "a.HEIF").write_bytes(b"x")

    assert refusal(tmp_path, NONE).endswith("; pip install pillow-heif reads such pictures)")


def test_files_of_operating_systems_among_images_are_ignored(tmp_path):
    images(tmp_path, "a.png", "@eaDir/a.png/THUMB_M.jpg", "__MACOSX/b.png", "._a.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")

    found = dataset.scan_dataset(tmp_path, NONE)

    assert (["a.png"], ()) == ([each.name for each in found.samples], found.notices)
    assert images_digest(tmp_path).digest == found.digest


def test_a_link_to_nothing_is_a_bad_image_or_an_ignored_file(tmp_path):
    images(tmp_path, "a.png")
    for name in ("gone.png", "notes.md"):
        (tmp_path / name).symlink_to("/nowhere")

    found = dataset.scan_dataset(tmp_path, NONE, skip_bad=True)

    assert "1 image that is a broken link: gone.png (--skip-bad" in refusal(tmp_path, NONE)
    assert [each.name for each in found.samples] == ["a.png"]
    assert found.notices == (
        "1 image that is a broken link: gone.png",
        "1 file ignored: notes.md",
    )


def test_a_link_to_a_folder_is_followed_at_any_depth_but_not_in_a_circle(tmp_path):
    images(tmp_path / "elsewhere", "b.png")
    data = images(tmp_path / "data", "sub/a.png")
    (data / "sub/more").symlink_to(tmp_path / "elsewhere")

    found = dataset.scan_dataset(data, NONE)
    (data / "sub/round").symlink_to(data / "sub")

    assert [each.name for each in found.samples] == ["sub/a.png", "sub/more/b.png"]
    assert "is a link to a folder that it lies in" in refusal(data, NONE)


def test_repeats_of_deeper_folders_are_said_not_to_count(tmp_path):
    images(tmp_path, "img/10_cat/a.png")

    (notice,) = dataset.scan_dataset(tmp_path, LABEL).notices

    assert notice == "each image counts once, without the repeats of img/10_cat"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("data/0.npz", "but data/0.npz, which may pack some and is not read (write each"),
        ("0000.zip", "but 0000.zip, which may pack some and is not read (unpack it with unzip)"),
        ("a.heic", "but 1 picture of other kinds: a.heic (image files end in .apng, .avif"),
    ],
)
def test_a_folder_without_images_says_what_it_has_instead(tmp_path, name, told):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")

    assert f"contains no images, {told}" in refusal(tmp_path, NONE)


def test_a_pipe_is_a_bad_image_or_no_caption_and_is_not_waited_for(tmp_path):
    images(tmp_path, "a.png")
    for name in ("a.txt", "b.png", "socket"):
        os.mkfifo(tmp_path / name)

    told = refusal(tmp_path, TEXT)

    assert "1 image unreadable: b.png" in told
    assert "1 image without a caption" in told
