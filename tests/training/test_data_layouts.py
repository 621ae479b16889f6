"""Data shards are read as they lie on disk, whichever program wrote them."""

from __future__ import annotations

import json
import os
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soupctl.errors import InputError
from soupctl.ledger.data_files import images_among
from soupctl.ledger.data_shard import images_digest, read_data_folder
from soupctl.ledger.image_metadata import read_metadata
from soupctl.merge.data_question import data_digests

conditioning = pytest.importorskip("soupctl.diffusion.base").Conditioning
dataset = pytest.importorskip("soupctl.training.dataset")
decode = pytest.importorskip("soupctl.images.decode")

TEXT, LABEL, NONE = conditioning.TEXT, conditioning.LABEL, conditioning.NONE


def images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def refusal(folder: Path, kind: conditioning) -> str:
    with pytest.raises(InputError) as refused:
        dataset.scan_dataset(folder, kind)
    return refused.value.message()


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


def test_a_folder_of_pictures_that_are_not_read_names_what_converts_them(tmp_path):
    (tmp_path / "a.HEIF").write_bytes(b"x")

    assert refusal(tmp_path, NONE).endswith("; pip install pillow-heif reads such pictures)")


def test_a_name_is_the_same_composed_or_not(tmp_path):
    images(tmp_path, unicodedata.normalize("NFC", "é.png"))
    (tmp_path / unicodedata.normalize("NFD", "é.txt")).write_text("a cat")

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("a cat",)


def test_a_csv_file_describes_images_as_a_json_lines_file_does(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text(
        'file_name,text,label\na.png,"a cat, asleep",1.0\nb.png,a dog,tail\nc.png,an owl,\n'
    )

    found = dataset.scan_dataset(tmp_path, TEXT)

    told = [(each.captions, each.label) for each in found.samples]
    assert told == [(("a cat, asleep",), "1"), (("a dog",), "tail"), (("an owl",), None)]
    assert found.notices == ()
    assert images_digest(tmp_path).digest == found.digest


@pytest.mark.parametrize("name", ["sub//a.png", "./sub/a.png", "sub\\a.png", "sub/../sub/a.png"])
def test_a_table_may_name_a_file_in_any_spelling(tmp_path, name):
    images(tmp_path, "sub/a.png")
    row = {"file_name": name, "text": "a cat"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("a cat",)


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])
def test_a_table_of_any_size_is_read_a_line_at_a_time(tmp_path, table):
    is_csv, rest = table.endswith(".csv"), "x" * (1 << 20)
    with (tmp_path / table).open("w") as file:
        file.write("file_name,text,prompt\n" if is_csv else "")
        for number in range(40):
            row = {"file_name": f"{number}.png", "text": "a cat", "prompt": rest}
            file.write((",".join(row.values()) if is_csv else json.dumps(row)) + "\n")
    tracemalloc.start()

    rows, bad = read_metadata(tmp_path / table, "text")

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (40, []) == (len(rows), bad)
    # of 40 MiB, a few lines of one
    assert peak < 10 << 20


def test_a_label_may_be_a_whole_number_with_a_point(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "label": 1.0}')

    assert dataset.scan_dataset(tmp_path, LABEL).samples[0].label == "1"


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


def test_a_null_caption_is_a_missing_one(tmp_path):
    images(tmp_path, "a.png", "b.png")
    rows = ({"file_name": "a.png", "text": None}, {"file_name": "b.png", "text": " "})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))

    told = refusal(tmp_path, TEXT)

    assert "malformed" not in told
    assert "caption-column in --config names another field): a.png" in told
    assert "1 image with an empty caption: b.png" in told


@pytest.mark.parametrize(
    "name", ["metadata.json", "captions.txt", "meta_cap.json", "Metadata.JSONL"]
)
def test_captions_in_a_form_that_is_not_read_are_named(tmp_path, name):
    images(tmp_path, "a.png")
    (tmp_path / name).write_text("x")

    assert f"; {name} is not read, write metadata.jsonl" in refusal(tmp_path, TEXT)


def test_parts_of_a_set_are_never_classes(tmp_path):
    images(tmp_path, "train/a.png", "test/b.png")

    assert f"has several splits: test, train (--data {tmp_path}/train)" in refusal(tmp_path, LABEL)


@pytest.mark.parametrize("others", [(), ("test", "val")])
def test_classes_are_those_of_the_split_for_training(tmp_path, others):
    images(tmp_path, "train/cat/a.png", "train/dog/b.png")
    for other in others:
        images(tmp_path, f"{other}/cat/c.png", f"{other}/rat/d.png")
    (tmp_path / "README.md").write_text("x")

    found = dataset.scan_dataset(tmp_path, LABEL)

    assert [("cat/a.png", "cat"), ("dog/b.png", "dog")] == [
        (each.name, each.label) for each in found.samples
    ]
    told = ("without the splits 'test', 'val'",) if others else ()
    assert (found.split, found.notices) == ("train", told)
    alone = dataset.scan_dataset(tmp_path / "train", LABEL)
    assert images_digest(tmp_path).digest == found.digest == alone.digest


def test_classes_in_the_table_of_a_split_are_used(tmp_path):
    images(tmp_path, "train/a.png", "test/b.png")
    (tmp_path / "train/metadata.jsonl").write_text('{"file_name": "a.png", "label": 1}')

    (sample,) = dataset.scan_dataset(tmp_path, LABEL).samples

    assert ("a.png", "1") == (sample.name, sample.label)


def test_a_single_split_with_captions_outside_it_is_part_of_a_whole_folder(tmp_path):
    images(tmp_path, "train/cat/a.png")
    (tmp_path / "captions/train/cat").mkdir(parents=True)
    (tmp_path / "captions/train/cat/a.txt").write_text("a cat")

    (sample,) = dataset.scan_dataset(tmp_path, TEXT).samples

    assert ("train/cat/a.png", ("a cat",)) == (sample.name, sample.captions)


def test_of_several_splits_the_one_for_training_is_meant(tmp_path):
    images(tmp_path, "train/a.png", "val2017/b.png", "test/b.png")
    (tmp_path / "train/metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat"}')

    found = dataset.scan_dataset(tmp_path, TEXT)

    assert [("a.png", ("a cat",))] == [(each.name, each.captions) for each in found.samples]
    assert (found.split, found.notices) == ("train", ("without the splits 'test', 'val2017'",))
    assert found.folder == tmp_path
    alone = dataset.scan_dataset(tmp_path / "train", TEXT)
    assert images_digest(tmp_path).digest == found.digest == alone.digest
    assert dataset.read_unchanged(found.samples[0]) == (tmp_path / "train/a.png").read_bytes()


def test_two_splits_for_training_or_a_table_of_all_splits_are_refused(tmp_path):
    images(tmp_path / "two", "train1/a.png", "train2/b.png")
    images(tmp_path / "listed", "train/a.png", "test/b.png")
    (tmp_path / "listed/metadata.jsonl").write_text('{"file_name": "test/b.png"}')

    for name in ("two", "listed"):
        assert "has several splits: " in refusal(tmp_path / name, NONE)


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


def test_a_caption_file_may_be_one_caption_as_a_whole(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("A cat.\n\nIt  sleeps.\n")

    lines = dataset.scan_dataset(tmp_path, TEXT)
    whole = dataset.scan_dataset(tmp_path, TEXT, whole=True)

    assert ("A cat.", "It  sleeps.") == lines.samples[0].captions
    assert ("A cat. It sleeps.",) == whole.samples[0].captions


def test_tables_in_subfolders_name_images_relative_to_them(tmp_path):
    images(tmp_path, "b/a.png", "c/a.png")
    for name in "bc":
        row = {"file_name": "a.png", "text": name}
        (tmp_path / name / "metadata.jsonl").write_text(json.dumps(row))

    found = dataset.scan_dataset(tmp_path, TEXT)

    assert [(("b",), "b"), (("c",), "c")] == [(x.captions, x.label) for x in found.samples]
    assert found.notices == ()
    assert images_digest(tmp_path).digest == found.digest


NOT_A_NUMBER = float("nan")


@pytest.mark.parametrize(
    ("row", "captions"),
    [({"text": ["a", None, ""]}, ("a",)), ({"text": NOT_A_NUMBER}, ()), ({"label": None}, ())],
)
def test_missing_values_as_pandas_writes_them_are_missing(tmp_path, row, captions):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", **row}))

    assert dataset.scan_dataset(tmp_path, NONE).samples[0].captions == captions


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "a.png", "text": "x"}', "no file_name, but image, text"),
        ('[{"file_name": "a.png"}]', "not an object"),
        ('{"file_name": "a.png", "text": {}}', "its text is not text"),
        ('{"file_name": "a.png", "label": 1.5}', "its label is neither text nor a whole number"),
        ('{"file_name": "../a.png"}', "its file_name leads out of the folder"),
        ("\udcff", "not valid UTF-8"),
    ],
)
def test_a_malformed_line_is_reported_with_the_reason(tmp_path, line, reason):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_bytes(line.encode("utf-8", "surrogateescape"))

    assert f"by a malformed line of metadata.jsonl ({reason}): line 1" in refusal(tmp_path, NONE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"file_name,text\na.png,a cat, asleep\n", "more fields than the first line: a text with"),
        (b"file_name;text\na.png;a cat\n", "no file_name, but file_name;text"),
        ("file_name,text\na.png,x\n".encode("utf-16"), "not valid UTF-8"),
    ],
)
def test_a_malformed_line_of_a_csv_file_is_reported_with_the_reason(tmp_path, content, reason):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_bytes(content)

    assert f"by a malformed line of metadata.csv ({reason}" in refusal(tmp_path, TEXT)


def test_empty_fields_beyond_those_of_the_first_line_are_none(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a cat,,\n")

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("a cat",)


def test_has_finds_a_data_shard_by_either_reading_of_its_caption_files(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("A cat.\nIt sleeps.\n")
    digests = data_digests(read_data_folder(tmp_path), "text")

    for whole in (False, True):
        assert dataset.scan_dataset(tmp_path, TEXT, whole=whole).digest in digests


def test_a_caption_in_a_csv_file_may_be_long(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text(f"file_name,text\na.png,{'x' * 200_000}\n")

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("x" * 200_000,)


@pytest.mark.parametrize(
    ("names", "kind", "told"),
    [
        (("a.png", "train2017/a.png", "val2017/b.png"), NONE, "has several splits: train2017, val"),
        (("cat/train/a.png", "cat/test/b.png"), LABEL, "has several splits: cat/test, cat/train"),
        (("a.png", "test/b.png"), NONE, "has the folder test, which is a split for testing"),
        (("a.png", "img/train2017/a.png", "img/val2017/b.png"), NONE, "several splits: img/tr"),
        (("trainA/a.png", "trainB/b.png", "testA/c.png", "testB/d.png"), NONE, "several splits"),
        (
            ("x/seg_train/a.png", "x/seg_test/b.png"),
            NONE,
            "splits: x/seg_test, x/seg_train",
        ),
        (
            ("a.png", "test2017/b.png"),
            NONE,
            "has the folder test2017, which is a split for testing",
        ),
        (("val/cat/a.png",), LABEL, "has the folder val, which is a split for testing"),
        (("train/a.png",), LABEL, "has the folder train, which is a split, not a class"),
        (("img/a.png", "reg/b.png"), NONE, "has regularization images in reg"),
    ],
)
def test_parts_of_a_set_are_never_taken_for_classes_or_trained_on_unasked(
    tmp_path, names, kind, told
):
    images(tmp_path, *names)

    assert told in refusal(tmp_path, kind)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("train/a.png",), NONE),
        (("cat/a.png", "test tube/b.png", "validator/c.png"), LABEL),
        (("model train/a.png", "crash test/b.png", "TESTAMENT/c.png"), LABEL),
        (("reg/a.png",), LABEL),
    ],
)
def test_folders_that_are_no_parts_of_a_set_are_used(tmp_path, names, kind):
    images(tmp_path, *names)

    assert len(dataset.scan_dataset(tmp_path, kind).samples) == len(names)


@pytest.mark.parametrize(
    ("training", "testing"),
    [
        ("seg_train", "seg_test"),
        ("training_set", "test_set"),
        ("TrainImages", "ValImages"),
        ("images train", "images evaluation"),
    ],
)
def test_splits_may_be_named_by_a_word_in_a_longer_name(tmp_path, training, testing):
    images(tmp_path, f"{training}/a.png", f"{testing}/b.png")

    found = dataset.scan_dataset(tmp_path, NONE)

    assert ["a.png"] == [each.name for each in found.samples]
    assert (found.split, found.notices) == (training, (f"without the split {testing!r}",))
    assert images_digest(tmp_path).digest == found.digest


def test_images_that_a_table_says_are_for_testing_are_told(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png")
    rows = [("a.png", "train"), ("b.png", "test"), ("c.png", "restval")]
    lines = (json.dumps({"file_name": name, "split": split}) for name, split in rows)
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))

    (notice,) = dataset.scan_dataset(tmp_path, NONE).notices

    assert notice == "1 image of the split 'test', as the table says, trained on as well"


def test_a_table_may_name_images_of_a_part_of_a_set(tmp_path):
    images(tmp_path, "test/a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "test/a.png", "label": "cat"}')

    assert dataset.scan_dataset(tmp_path, LABEL).samples[0].label == "cat"


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


def test_a_pipe_is_a_bad_image_or_no_caption_and_is_not_waited_for(tmp_path):
    images(tmp_path, "a.png")
    for name in ("a.txt", "b.png", "socket"):
        os.mkfifo(tmp_path / name)

    told = refusal(tmp_path, TEXT)

    assert "1 image unreadable: b.png" in told
    assert "1 image without a caption" in told


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
