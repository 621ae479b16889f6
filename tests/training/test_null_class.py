"""Images of classes are guided away from a class that stands for none, and never from another."""

from __future__ import annotations

import pytest
import torch

from soupctl import verbs
from soupctl.errors import MismatchError, UsageError


@pytest.fixture(scope="module")
def trained_with(tiny, bases, shards, running, tmp_path_factory):
    """The models of runs with and without dropped classes, by that share."""
    folder = tmp_path_factory.mktemp("runs")
    three = tiny.class_base(folder / "three", classes=2)
    found = {}
    for drop, base in ((0.1, bases["class"]), (0, three)):
        place = folder / f"drop-{drop}"
        running.run(base, shards["class"], place, running.ReporterSpy(), steps=1, cond_drop=drop)
        found[drop] = place / "model"
    return found


def drawn(folder, **request):
    """The images of a model."""
    compare = pytest.importorskip("soupctl.images.compare")
    values = {"images": 6, "steps": 2, **request}
    made = compare.SampleRequest(**values)
    (found,) = compare.sample_models([folder], [], made, torch.device("cpu"))
    return found


@pytest.mark.parametrize("share", [0, "base"])
def test_without_a_class_for_none_all_classes_are_drawn_without_guidance(
    bases, trained_with, share
):
    folder = bases["class"] if share == "base" else trained_with[share]

    images, plain = drawn(folder), drawn(folder, guidance=1)

    assert "sampled without guidance" in images.notice
    assert images.labels == plain.labels
    assert set(images.labels) >= {"class 0", "class 1", "class 2"}
    assert torch.equal(images.images, plain.images)


def test_guidance_without_a_known_null_class_is_refused(bases):
    with pytest.raises(MismatchError, match="guidance needs the null class") as refusal:
        drawn(bases["class"], guidance=3)

    assert "null-class" in refusal.value.message()


def test_a_model_trained_with_a_null_class_is_guided_by_it(trained_with):
    found = drawn(trained_with[0.1])

    assert found.notice == ""
    assert set(found.labels) == {"class 0", "class 1", "class 2"}
    assert torch.equal(found.images, drawn(trained_with[0.1], null_class=3).images)


def test_a_soup_has_a_class_for_none_if_all_of_its_ingredients_have_one(
    trained_with, bases, tmp_path
):
    for name, other in (("same", trained_with[0.1]), ("mixed", bases["class"])):
        weighted = [verbs.Ingredient(trained_with[0.1], 2), verbs.Ingredient(other, 1)]
        verbs.average(verbs.Request(weighted, tmp_path / name))

    assert drawn(tmp_path / "same").notice == ""
    assert "without guidance" in drawn(tmp_path / "mixed").notice


def test_the_class_for_none_can_be_said(bases):
    found = drawn(bases["class"], null_class=0)

    assert set(found.labels) == {"class 1", "class 2", "class 3"}
    with pytest.raises(MismatchError, match="classes 1 to 3, but class is 0"):
        drawn(bases["class"], null_class=0, classes=(0,))
    with pytest.raises(MismatchError, match="classes 0 to 3, but null_class is 4"):
        drawn(bases["class"], null_class=4)
    with pytest.raises(UsageError, match="takes no classes"):
        drawn(bases["plain"], null_class=0)
