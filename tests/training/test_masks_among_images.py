"""Masks among images are told from images by their names, and left out or used."""

from __future__ import annotations

import json

import pytest
from data_folders import LABEL, NONE, TEXT, dataset, images, refusal

from soupctl.ledger.data_shard import images_digest


@pytest.mark.parametrize(
    "name", ["a.mask.png", "a-masklabel.jpg", "a_mask.png", "a-mask.png", "masks/a.png"]
)
def test_a_mask_is_known_by_its_name_and_that_of_its_image(tmp_path, name):
    images(tmp_path, "a.png", name, "b_mask.png")

    found = dataset.scan_dataset(tmp_path, NONE)

    assert ["a.png", "b_mask.png"] == [each.name for each in found.samples]
    (told,) = found.notices
    assert told.startswith(f"1 image left out as a mask, by its name: {name}")
    assert images_digest(tmp_path).digest == found.digest


@pytest.mark.parametrize("name", ["gas_mask.png", "gas-mask.png", "masks/gas.png"])
@pytest.mark.parametrize("table", ["", "metadata.jsonl"])
def test_an_image_with_a_caption_or_in_a_table_is_no_mask(tmp_path, name, table):
    images(tmp_path, "gas.png", name)
    captions = {"gas.png": "gas", name: "a mask"}
    if table:
        rows = [{"file_name": each, "text": text} for each, text in captions.items()]
        (tmp_path / table).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        for each, text in captions.items():
            (tmp_path / each).with_suffix(".txt").write_text(text)

    found = dataset.scan_dataset(tmp_path, TEXT)

    assert [each.name for each in found.samples] == sorted(captions)
    assert images_digest(tmp_path).digest == found.digest


def test_a_mask_stays_one_if_a_table_lists_other_images_or_its_name_is_of_nothing_else(tmp_path):
    images(tmp_path, "a.png", "a_mask.png", "b.png", "b.mask.png")
    (tmp_path / "b.mask.txt").write_text("made by a program that captions all files")
    rows = [{"file_name": name, "text": "x"} for name in ("a.png", "b.png")]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = dataset.scan_dataset(tmp_path, TEXT)

    assert ["a.png", "b.png"] == [each.name for each in found.samples]
    assert images_digest(tmp_path).digest == found.digest

    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "b.mask.png", "text": "x"}))

    told = refusal(tmp_path, TEXT)
    assert "in metadata.jsonl, but a mask by its name: b.mask.png" in told


@pytest.mark.parametrize("masks", ["masks", "Mask"])
def test_masks_in_a_folder_beside_the_images_are_theirs_but_a_class_of_masks_is_not(
    tmp_path, masks
):
    images(tmp_path, "one/images/a.png", "one/images/b.png", f"one/{masks}/a.png")
    images(tmp_path, "two/hats/a.png", f"two/{masks}/a.png")

    found = dataset.scan_dataset(tmp_path / "one", NONE, with_masks=True)
    classes = dataset.scan_dataset(tmp_path / "two", LABEL)

    assert [each.mask and each.mask.name for each in found.samples] == [f"{masks}/a.png", None]
    assert any(each.startswith("1 image used as a mask") for each in found.notices)
    assert {each.label for each in classes.samples} == {"hats", masks}


def test_pictures_and_masks_that_are_not_used_are_told_apart_from_other_files(tmp_path):
    images(tmp_path, "a.png", "a.mask.png", "b.png", "b-masklabel.png", "c.mask.png")
    for name in ("d.heic", "e.JXL", "notes.md"):
        (tmp_path / name).write_bytes(b"x")

    found = dataset.scan_dataset(tmp_path, NONE)

    assert ["a.png", "b.png", "c.mask.png"] == [each.name for each in found.samples]
    assert found.notices == (
        (
            "2 pictures left out, of a kind that is not read: d.heic, e.JXL"
            " (pip install pillow-heif pillow-jxl-plugin reads such)"
        ),
        "2 images left out as masks, by their names: a.mask.png, b-masklabel.png",
        "1 file ignored: notes.md",
    )
    assert images_digest(tmp_path).digest == found.digest
