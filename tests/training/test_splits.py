"""Splits of a set of images are told from classes, and the one for training is used."""

from __future__ import annotations

import json

import pytest
from data_folders import LABEL, NONE, TEXT, dataset, images, refusal

from soupctl.ledger.data_shard import images_digest


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
        (("cat/trainsplit/a.png", "cat/testsplit/b.png"), NONE, "has several splits: cat/test"),
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
        ("trainsplit", "TESTSPLIT"),
        ("TrainImages", "ValImages"),
        ("images train", "images evaluation"),
        ("train-images", "t10k-images"),
        ("trainset", "testset"),
        ("trainimgs", "valimgs"),
        ("train_data", "holdout_data"),
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

    assert notice == "1 image of the split 'test', as the table says, used as well"


def test_a_table_may_name_images_of_a_part_of_a_set(tmp_path):
    images(tmp_path, "test/a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "test/a.png", "label": "cat"}')

    assert dataset.scan_dataset(tmp_path, LABEL).samples[0].label == "cat"


@pytest.mark.parametrize(
    ("subject", "others"),
    [("instance", "class"), ("instance_images", "class_images"), ("sks", "reg_images")],
)
def test_images_of_the_class_of_a_subject_are_not_trained_on_as_it(tmp_path, subject, others):
    images(tmp_path, f"{subject}/a.png", f"{others}/b.png")

    assert refusal(tmp_path, NONE) == (
        f"{tmp_path}: has regularization images in {others}"
        f" (--data {tmp_path}/{subject} --regularization {tmp_path}/{others})"
    )


def test_folders_of_numbered_classes_are_no_regularization_images(tmp_path):
    images(tmp_path, "class 1/a.png", "class 2/b.png", "regular/c.png")

    assert 3 == len(dataset.scan_dataset(tmp_path, LABEL).samples)


@pytest.mark.parametrize(
    ("photographs", "annotations"),
    [
        ("images", "labels"),
        ("images", "annotations/trimaps"),
        ("JPEGImages", "SegmentationClass"),
        ("images", "conditioning_images"),
    ],
)
@pytest.mark.parametrize("kind", [NONE, LABEL])
def test_pictures_about_the_images_are_not_trained_on(tmp_path, photographs, annotations, kind):
    images(tmp_path, f"{photographs}/a.jpg", f"{annotations}/a.png")
    top = annotations.partition("/")[0]

    assert refusal(tmp_path, kind) == (
        f"{tmp_path}: has pictures in {top} that have the names of those in {photographs}"
        f" (move {top} elsewhere, or --data {tmp_path}/{photographs})"
    )


def test_folders_called_so_with_other_images_are_trained_on(tmp_path):
    images(tmp_path, "images/a.png", "labels/b.png")

    found = dataset.scan_dataset(tmp_path, NONE)

    assert found.notices[0] == "images of several places: images 1, labels 1"


def test_the_folder_of_splits_below_is_the_way_out(tmp_path):
    images(tmp_path, "data/x/train/cat/a.png", "data/x/test/cat/b.png")

    told = "has several splits: data/x/test, data/x/train"
    assert refusal(tmp_path, LABEL) == f"{tmp_path}: {told} (--data {tmp_path}/data/x/train)"


def test_images_of_one_name_and_of_several_places_are_told(tmp_path):
    images(tmp_path, "a.png", "a.jpg", "samples/b.png")

    assert dataset.scan_dataset(tmp_path, NONE).notices[:2] == (
        "2 images share a name, but for the ending: a.jpg, a.png",
        "images of several places: the folder itself 2, samples 1",
    )


def test_regularization_images_below_the_images_are_to_be_moved(tmp_path):
    images(tmp_path, "a.png", "reg/b.png")

    assert refusal(tmp_path, NONE) == (
        f"{tmp_path}: has regularization images in reg"
        " (move reg elsewhere, and name it with --regularization)"
    )
