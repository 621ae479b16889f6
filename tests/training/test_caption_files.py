"""Captions are found beside images, where and how other programs write them."""

from __future__ import annotations

import unicodedata

import pytest
from data_folders import LABEL, TEXT, dataset, images, refusal

from soupctl.ledger.data_files import images_among
from soupctl.ledger.data_shard import images_digest, read_data_folder
from soupctl.merge.data_question import data_digests


@pytest.mark.parametrize(
    "sidecar",
    ["a.caption", "a.TXT", "a.png.txt", "a.png.caption", "captions/a.txt", "captions/a.CAPTION"],
)
def test_captions_are_found_where_other_programs_write_them(tmp_path, sidecar):
    images(tmp_path, "a.png")
    (tmp_path / sidecar).parent.mkdir(exist_ok=True)
    (tmp_path / sidecar).write_text("a cat\n")

    found = dataset.scan_dataset(tmp_path, TEXT)

    assert (("a cat",), ()) == (found.samples[0].captions, found.notices)
    assert images_digest(tmp_path).digest == found.digest


def test_images_that_share_a_caption_file_are_told(tmp_path):
    images(tmp_path, "a.png", "a.jpg")
    (tmp_path / "a.txt").write_text("a cat")

    (notice,) = dataset.scan_dataset(tmp_path, TEXT).notices

    assert notice == "2 images share a caption file: a.jpg, a.png"


def test_captions_of_a_subfolder_may_be_in_one_folder(tmp_path):
    images(tmp_path, "b/a.png")
    (tmp_path / "captions/b").mkdir(parents=True)
    (tmp_path / "captions/b/a.txt").write_text("a cat")

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("a cat",)


def test_the_plain_text_file_wins_and_the_other_is_reported(tmp_path):
    images(tmp_path, "a.png")
    for name in ("a.txt", "a.caption"):
        (tmp_path / name).write_text(name)

    found = dataset.scan_dataset(tmp_path, TEXT)

    assert found.samples[0].captions == ("a.txt",)
    assert found.notices == ("1 file ignored: a.caption",)


def test_a_name_is_the_same_composed_or_not(tmp_path):
    images(tmp_path, unicodedata.normalize("NFC", "é.png"))
    (tmp_path / unicodedata.normalize("NFD", "é.txt")).write_text("a cat")

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("a cat",)


def test_empty_captions_are_told_apart_from_missing_ones_by_image(tmp_path):
    images(tmp_path, "empty.png", "none.png")
    (tmp_path / "empty.txt").write_text("")

    told = refusal(tmp_path, TEXT)

    assert "1 image with an empty caption: empty.png" in told
    assert "1 image without a caption (no .txt or .caption file): none.png" in told


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_caption_file_in_another_encoding_is_a_bad_image(tmp_path, encoding):
    images(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("a caf\u00e9", encoding)

    assert "1 image with a caption that is not valid UTF-8: a.png" in refusal(tmp_path, TEXT)


@pytest.mark.parametrize(
    "name", ["metadata.json", "captions.txt", "meta_cap.json", "Metadata.JSONL"]
)
def test_captions_in_a_form_that_is_not_read_are_named(tmp_path, name):
    images(tmp_path, "a.png")
    (tmp_path / name).write_text("x")

    assert f"; {name} is not read, write metadata.jsonl" in refusal(tmp_path, TEXT)


def test_captions_may_be_in_a_folder_beside_that_of_the_images(tmp_path):
    images(tmp_path, "images/b/a.png")
    (tmp_path / "captions/b").mkdir(parents=True)
    (tmp_path / "captions/b/a.txt").write_text("a cat")

    found = dataset.scan_dataset(tmp_path, TEXT)

    assert (("a cat",), ()) == (found.samples[0].captions, found.notices)
    assert images_digest(tmp_path).digest == found.digest


@pytest.mark.parametrize("name", ["a.tags", "captions/a.tags"])
def test_tags_are_captions(tmp_path, name):
    images(tmp_path, "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("1girl, red hair")

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("1girl, red hair",)


@pytest.mark.parametrize("name", ["a.json", "texts/a.txt"])
def test_a_file_that_may_hold_a_caption_but_is_not_read_is_named(tmp_path, name):
    images(tmp_path, "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")

    assert f"files such as {name} are not read): a.png" in refusal(tmp_path, TEXT)


def test_images_with_such_files_are_reported_together_and_searched_for_once(tmp_path, monkeypatch):
    names = [f"{number}.png" for number in range(5)]
    images(tmp_path, *names)
    for name in names:
        (tmp_path / name).with_suffix(".json").write_text("{}")
    searched = []
    monkeypatch.setattr(
        "soupctl.training.image_problems.images_among",
        lambda files: searched.append(files) or images_among(files),
    )

    told = refusal(tmp_path, TEXT)

    assert "5 images without a caption (" in told
    assert "; .json files such as 0.json are not read): 0.png, 1.png, 2.png and 2 more" in told
    assert 1 == told.count("without a caption")
    assert 1 == len(searched)


@pytest.mark.parametrize(
    "content",
    [
        "0 0.5 0.5 0.2 0.2\n7 0.1 1e-1 0.2 0.25\n",
        "377,117,463,117,465,130,378,130,Genaxis\n",
        "12 8 40 8 40 30 12 30 plane 0\n",
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_boxes_around_objects_are_no_captions(tmp_path, content, whole):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_text(content)
    (tmp_path / "b.txt").write_text("a cat")

    (told, *_) = dataset.scan_dataset(tmp_path, TEXT, whole=whole, skip_bad=True).notices

    assert told == (
        "1 image whose caption file has rows of numbers, as of boxes around objects instead of a"
        " caption (captions may be in metadata.jsonl): a.png"
    )


@pytest.mark.parametrize(
    "content",
    [
        *("7", "1girl, 2019, 16 9", "0 1 2 3\na count", "4 of 10"),
        "a poster with the numbers 1, 2, 3, 4",
    ],
)
def test_captions_may_have_numbers(tmp_path, content):
    images(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text(content)

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == tuple(content.split("\n"))


def test_a_caption_file_in_other_letters_is_named(tmp_path):
    images(tmp_path, "IMG_1.JPG")
    (tmp_path / "img_1.txt").write_text("a cat")

    told = "; .txt files such as img_1.txt differ in upper and lower case)"
    assert told in refusal(tmp_path, TEXT)


@pytest.mark.parametrize(
    "name", ["captions.txt", "metadata.tsv", "results.csv", "annotations/captions_train2017.json"]
)
def test_a_table_that_is_not_read_is_named(tmp_path, name):
    images(tmp_path, "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")

    assert f"; {name} is not read, write metadata.jsonl)" in refusal(tmp_path, TEXT)
    told = refusal(tmp_path, LABEL)
    assert f"; {name} is not read, write metadata.jsonl): a.png" in told


def test_a_caption_file_may_be_one_caption_as_a_whole(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("A cat.\n\nIt  sleeps.\n")

    lines = dataset.scan_dataset(tmp_path, TEXT)
    whole = dataset.scan_dataset(tmp_path, TEXT, whole=True)

    assert ("A cat.", "It  sleeps.") == lines.samples[0].captions
    assert ("A cat. It sleeps.",) == whole.samples[0].captions


def test_has_finds_a_data_shard_by_either_reading_of_its_caption_files(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("A cat.\nIt sleeps.\n")
    digests = data_digests(read_data_folder(tmp_path), "text")

    for whole in (False, True):
        assert dataset.scan_dataset(tmp_path, TEXT, whole=whole).digest in digests


def test_caption_files_of_several_lines_are_told_with_the_other_way_to_read_them(tmp_path):
    data = images(tmp_path / "data", "a.png", "b.png")
    (data / "a.txt").write_text("A cat on a mat.\n\nIt sleeps.\n")
    (data / "b.txt").write_text("A dog.\n")

    assert dataset.scan_dataset(data, TEXT).notices == (
        (
            "1 caption file with several captions, one a line: a.txt"
            ' (caption-files = "whole" in --config makes one of each file)'
        ),
    )
    assert dataset.scan_dataset(data, TEXT, whole=True).notices == ()


def test_a_pointer_of_git_lfs_is_neither_a_caption_nor_an_image(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    images(tmp_path, "a.png")
    for name in ("a.txt", "b.png"):
        (tmp_path / name).write_text(pointer)

    told = refusal(tmp_path, TEXT)

    assert "1 image whose caption file has a pointer of Git LFS instead of a caption (" in told
    assert "1 image unreadable: b.png (is a pointer of Git LFS)" in told


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("<!DOCTYPE html>\n<html>not found</html>", "a web page"),
        ("{\\rtf1\\ansi a cat}", "rich text"),
        ('{"tags": ["a cat"]}', "JSON"),
    ],
)
def test_other_text_than_plain_text_is_no_caption(tmp_path, content, what):
    images(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text(content)

    told = f"1 image whose caption file has {what} instead of a caption (captions may be in"
    assert told in refusal(tmp_path, TEXT)
