"""Repeats of images: the numbers of kohya's folders count, are told, and are part of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")

from soupctl.diffusion.base import Conditioning
from soupctl.errors import OutputError
from soupctl.training.dataset import Dataset, scan_dataset
from soupctl.training.held_out import hold_out
from soupctl.training.loader import InputSpec, make_order
from soupctl.training.options import Options

NONE, LABEL = Conditioning.NONE, Conditioning.LABEL
SQUARE = InputSpec(8, 3, (3, 8, 8), False, range(10))


def images(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name)
    return folder


def counted(folder: Path, kind: Conditioning = NONE) -> Dataset:
    return scan_dataset(folder, kind, with_repeats=True)


def test_an_epoch_visits_each_image_as_often_as_its_folder_says(tmp_path):
    images(tmp_path, "10_sks dog/a.png", "10_sks dog/b.png", "1_dog/c.png", "1_dog/d.png")

    found = counted(tmp_path)
    order = make_order(found.samples, Options(steps=1), SQUARE)

    told = "repeats count: 10_sks dog 10 x, 1_dog 1 x, 22 images an epoch"
    assert told == found.notices[0]
    for epoch in range(2):
        visits = Counter(order.index(22 * epoch + place) for place in range(22))
        assert [visits[index] for index in range(4)] == [10, 10, 1, 1]


def test_repeats_change_neither_digest_nor_the_order_of_images_that_count_once(tmp_path):
    data = images(tmp_path / "data", "3_a/a.png", "1_b/b.png")
    found, once = counted(data), scan_dataset(data, NONE)

    assert found.digest == once.digest
    assert once.notices[0] == "each image counts once, without the repeats of 1_b, 3_a"
    order = make_order(once.samples, Options(steps=1), SQUARE)
    assert sorted(order.index(place) for place in range(2)) == [0, 1]


def test_with_buckets_they_count_before_the_last_batch_is_filled_up(tmp_path):
    images(tmp_path, "6_a/a.png", "1_b/b.png")
    square = replace(SQUARE, buckets=(((8, 8),),))

    order = make_order(counted(tmp_path).samples, Options(steps=1, batch_size=8), square)

    visits = Counter(order.index(place) for place in range(order.epoch))
    assert order.epoch == 8
    assert visits[0] + visits[1] == 8
    assert {visits[0], visits[1]} in ({1, 7}, {2, 6})


@pytest.mark.parametrize(
    "names",
    [
        ("10_a/a.png", "other/b.png"),
        ("10_a/a.png", "b.png"),
        ("2019_trip/a.png", "2020_trip/b.png"),
        ("001_cat/a.png", "002_dog/b.png"),
    ],
)
def test_a_number_that_may_be_part_of_a_name_does_not_count(tmp_path, names):
    assert {1} == {each.repeats for each in counted(images(tmp_path, *names)).samples}


def test_classes_are_not_repeated(tmp_path):
    found = counted(images(tmp_path, "10_cat/a.png", "2_dog/b.png"), LABEL)

    assert [(each.repeats, each.label) for each in found.samples] == [(1, "10_cat"), (1, "2_dog")]
    assert found.notices == ("each image counts once, without the repeats of 10_cat, 2_dog",)


def test_held_out_images_count_alike(tmp_path):
    found = counted(images(tmp_path, *(f"5_a/{number}.png" for number in range(4))))

    trained, held = hold_out(found, 0.5)

    assert [each.repeats for each in (*trained.samples, *held.samples)] == [5, 5, 1, 1]


def test_a_run_with_other_repeats_is_another_run(tmp_path, bases, running):
    data = images(tmp_path / "data", "4_a/a.png", "1_b/b.png")
    spy = running.ReporterSpy()
    running.run(bases["plain"], data, tmp_path / "run", spy, steps=None, epochs=1, batch_size=1)

    assert spy.steps[-1] == 5
    with pytest.raises(OutputError, match="repeats"):
        running.run(bases["plain"], data, tmp_path / "run", spy, repeats=False)
