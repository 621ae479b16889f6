"""A dataset is what its folder contains; nothing is dropped silently, all problems are reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from soupctl.diffusion.base import Conditioning
from soupctl.errors import InputError, MismatchError
from soupctl.training.dataset import scan_dataset
from soupctl.training.labels import (
    ClassNumbers,
    names_of_classes,
    number_classes,
    require_one_numbering,
)


def image(path, size=(8, 8), mode="RGB", colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour or 0).save(path)
    return path


def messages(folder, conditioning, **options):
    with pytest.raises(InputError) as refusal:
        scan_dataset(folder, conditioning, **options)
    return [issue.what for issue in refusal.value.issues]


def test_captions_come_from_files_beside_the_images(tmp_path):
    image(tmp_path / "b" / "one.png")
    (tmp_path / "b" / "one.txt").write_text("a cat\n\n  another cat \n")
    image(tmp_path / "a.JPG")
    (tmp_path / "a.txt").write_text("a dog")

    dataset = scan_dataset(tmp_path, Conditioning.TEXT)

    found = [(sample.name, sample.captions) for sample in dataset.samples]
    assert found == [("a.JPG", ("a dog",)), ("b/one.png", ("a cat", "another cat"))]
    assert dataset.notices == (
        (
            "1 caption file with several captions, one a line: b/one.txt"
            ' (caption-files = "whole" in --config makes one of each file)'
        ),
        "images of several places: the folder itself 1, b 1",
    )


def test_captions_are_utf_8_with_a_byte_order_mark_or_without(tmp_path):
    for name, text in (("marked", b"\xef\xbb\xbfa cat\r\n"), ("wide", "a dog".encode("utf-16"))):
        image(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(text)

    dataset = scan_dataset(tmp_path, Conditioning.TEXT, skip_bad=True)

    assert [("a cat",)] == [sample.captions for sample in dataset.samples]
    assert dataset.notices[0] == "1 image with a caption that is not valid UTF-8: wide.png"


def test_captions_may_contain_any_line_separator_but_a_newline(tmp_path):
    image(tmp_path / "a.png")
    line = '{"file_name": "a.png", "text": "one\u2028still\x85one"}\r\n'
    (tmp_path / "metadata.jsonl").write_bytes(line.encode("utf-8-sig"))

    dataset = scan_dataset(tmp_path, Conditioning.TEXT)

    assert [("one\u2028still\x85one",)] == [sample.captions for sample in dataset.samples]


def test_captions_and_classes_come_from_metadata(tmp_path, tiny):
    rows = [
        {"file_name": "a.png", "text": "a cat", "label": 3},
        {"file_name": "b.png", "text": ["a dog", "a pup"], "label": "dog"},
    ]
    dataset = scan_dataset(tiny.rows_shard(tmp_path / "rows", rows), Conditioning.TEXT)

    assert [("a cat",), ("a dog", "a pup")] == [sample.captions for sample in dataset.samples]
    assert ["3", "dog"] == [sample.label for sample in dataset.samples]


def test_another_column_can_hold_the_captions(tmp_path, tiny):
    rows = [{"file_name": "a.png", "text": "no", "caption": "yes"}]
    dataset = scan_dataset(
        tiny.rows_shard(tmp_path / "rows", rows), Conditioning.TEXT, column="caption"
    )

    assert dataset.samples[0].captions == ("yes",)


def test_all_problems_are_reported_at_once(tmp_path, tiny):
    rows = [
        {"file_name": "a.png", "text": "a cat"},
        {"file_name": "silent.png"},
        {"file_name": "torn.png", "text": "a dog"},
    ]
    folder = tiny.rows_shard(tmp_path / "rows", rows)
    (folder / "torn.png").write_bytes(b"")
    image(folder / "unknown.png")
    with (folder / "metadata.jsonl").open("a") as file:
        file.write('{"file_name": "gone.png", "text": "x"}\n{"file_name": "../x"}\n')
        file.write('{"file_name": "a.png", "text": "twice"}\nnonsense\n')

    assert messages(folder, Conditioning.TEXT) == [
        (
            "1 image described by a malformed line of metadata.jsonl (its file_name leads out of"
            " the folder): line 5"
        ),
        "1 image described twice in metadata.jsonl: a.png (line 6)",
        "1 image described by a malformed line of metadata.jsonl (not JSON): line 7",
        "1 image in metadata.jsonl but missing: gone.png",
        (
            "1 image without a caption (no 'text' in metadata.jsonl; caption-column in --config"
            " names another field): silent.png"
        ),
        "1 image unreadable: torn.png (has 0 bytes)",
        "1 image not in metadata.jsonl: unknown.png",
    ]


def test_bad_images_are_skipped_only_on_request_and_reported(tmp_path):
    image(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("<html>")

    dataset = scan_dataset(tmp_path, Conditioning.NONE, skip_bad=True)

    assert ["good.png"] == [sample.name for sample in dataset.samples]
    kinds = "PNG, JPEG, WebP, BMP, TIFF, GIF or AVIF"
    assert dataset.notices == (f"1 image unreadable: bad.png (is not a {kinds} image)",)


def test_where_no_image_would_be_left_skipping_bad_ones_is_no_way_out(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")

    for skip_bad in (False, True):
        with pytest.raises(InputError) as refused:
            scan_dataset(tmp_path, Conditioning.NONE, skip_bad=skip_bad)
        told = refused.value.message()
        assert told == f"{tmp_path}: 1 image unreadable: bad.png (has 0 bytes)"


def test_an_image_that_is_cut_off_is_found_before_training(tmp_path):
    for name in ("good.jpg", "torn.jpg"):
        Image.effect_noise((64, 64), 64).save(tmp_path / name)
    data = (tmp_path / "torn.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(data[: len(data) // 2])

    dataset = scan_dataset(tmp_path, Conditioning.NONE, skip_bad=True)

    (told,) = messages(tmp_path, Conditioning.NONE)
    assert told.startswith("1 image unreadable: torn.jpg (")
    assert [("good.jpg", (64, 64))] == [(each.name, each.size) for each in dataset.samples]


def test_exif_orientation_is_checked_before_training(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description", 6
    # of no type: it can be read over, and cannot be written again
    broken = bytearray(exif.tobytes())
    broken[17] = 0
    Image.new("RGB", (8, 8)).save(tmp_path / "broken.jpg", exif=bytes(broken))

    (told,) = messages(tmp_path, Conditioning.NONE)
    assert told.startswith("1 image unreadable: broken.jpg (")


def test_a_file_name_that_is_not_utf8_is_reported(tmp_path):
    image(tmp_path / "good.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))

    (problem,) = messages(tmp_path, Conditioning.NONE)

    assert problem == "1 image with a name that is not valid UTF-8: \udcff.png"


def test_files_that_are_not_images_are_reported(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "notes.csv").write_text("x")
    (tmp_path / "lonely.txt").write_text("x")

    dataset = scan_dataset(tmp_path, Conditioning.NONE)

    assert dataset.notices == ("2 files ignored: lonely.txt, notes.csv",)


def test_an_unconditional_base_ignores_captions_with_one_notice(tmp_path, tiny):
    dataset = scan_dataset(tiny.captioned_shard(tmp_path / "x"), Conditioning.NONE)

    assert dataset.notices == ("captions and classes are ignored: the base is unconditional",)


def test_transparency_is_reported(tmp_path):
    image(tmp_path / "a.png", mode="RGBA")

    assert scan_dataset(tmp_path, Conditioning.NONE).notices == (
        "1 image with transparency, placed on white",
    )


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_a_folder_without_images_is_refused(tmp_path, conditioning):
    (problem,) = messages(tmp_path, conditioning)

    assert problem == "contains no images"


def test_the_digest_covers_only_names_bytes_captions_and_labels(tmp_path, tiny):
    def digest(name):
        return scan_dataset(tmp_path / name, Conditioning.NONE).digest

    for name in ("one", "same", "renamed", "retold", "redrawn"):
        tiny.captioned_shard(tmp_path / name)
    (tmp_path / "same" / "notes.csv").write_text("x")
    (tmp_path / "renamed" / "0.png").rename(tmp_path / "renamed" / "00.png")
    (tmp_path / "retold" / "0.txt").write_text("another caption")
    image(tmp_path / "redrawn" / "0.png")

    assert digest("one") == digest("same")
    assert len({digest(name) for name in ("one", "renamed", "retold", "redrawn")}) == 4


def test_classes_by_name_are_numbered_in_order_if_all_are_there(tmp_path):
    classes = number_classes(["dog", "cat", "dog"], (), 3, with_null=True, path=tmp_path)

    assert ({"cat": 0, "dog": 1}, 2) == (classes.numbers, classes.null)


def test_integer_labels_are_used_as_class_numbers(tmp_path):
    classes = number_classes(["7", "5"], (), 11, with_null=True, path=tmp_path)

    assert ({"5": 5, "7": 7}, 10) == (classes.numbers, classes.null)


def test_some_of_the_classes_by_name_need_the_names_of_all(tmp_path):
    named = number_classes(["owl"], ("cat", "dog", "owl"), 4, with_null=True, path=tmp_path)

    assert named.numbers == {"owl": 2}
    with pytest.raises(MismatchError, match="expected 3 classes, as in the base, and found 1"):
        number_classes(["owl"], (), 4, with_null=True, path=tmp_path)


@pytest.mark.parametrize(
    ("label", "names"),
    [("10", ()), ("-1", ()), ("9" * 5000, ()), ("fox", ("cat", "dog"))],
    ids=["number", "negative", "long", "name"],
)
def test_a_class_unknown_to_the_base_is_refused(tmp_path, label, names):
    with pytest.raises(MismatchError, match=f"has the class '{label[:9]}"):
        number_classes([label], names, 11, with_null=True, path=tmp_path)


def test_two_names_of_one_class_are_refused(tmp_path):
    with pytest.raises(MismatchError) as refusal:
        number_classes(["01", "1", "2"], (), 4, with_null=False, path=tmp_path)

    told = f"{tmp_path}: has the classes '01' and '1', which are one number (rename one of them)"
    assert refusal.value.message() == told


def test_classes_have_the_numbers_that_the_base_gives_to_their_names(tmp_path):
    names = {"0": "tench, Tinca tinca", "1": "crane", "2": "crane", "3": "bee"}
    base = names_of_classes({"id2label": names})

    found = number_classes(["bee", "tench"], (), 4, with_null=False, path=tmp_path, of_base=base)
    assert found.numbers == {"bee": 3, "tench": 0}
    with pytest.raises(MismatchError, match="has the class 'crane', which is not one"):
        number_classes(["bee", "crane"], (), 4, with_null=False, path=tmp_path, of_base=base)
    others = number_classes(["a", "b"], (), 2, with_null=False, path=tmp_path, of_base=base)
    assert others.numbers == {"a": 0, "b": 1}


def test_data_shards_that_number_their_classes_differently_are_refused():
    def numbered(*names: str) -> ClassNumbers:
        return ClassNumbers({name: number for number, name in enumerate(names)}, None)

    advice = "(name all classes of the base in order with classes = [...] in --config)"
    for second, told in (
        (("ant", "cat"), "b: has the class 'ant' as number 0, which is 'cat' in a"),
        (("dog", "cat"), "b: has the class 'dog' as number 0, and a as 1"),
    ):
        with pytest.raises(MismatchError) as refusal:
            require_one_numbering({Path("a"): numbered("cat", "dog"), Path("b"): numbered(*second)})
        assert refusal.value.message() == f"{told} {advice}"
    require_one_numbering({Path("a"): numbered("cat", "dog"), Path("b"): numbered("cat")})


def test_data_shards_may_name_one_class_differently():
    def numbered(**numbers: int) -> ClassNumbers:
        return ClassNumbers(numbers, None)

    folders = Path("a"), Path("b")
    names = {"tench": 0, "Tinca tinca": 0}
    synonyms = (numbered(tench=0), numbered(**{"Tinca tinca": 0}))
    padded = (numbered(**{"1": 1}), numbered(**{"01": 1}))

    require_one_numbering(dict(zip(folders, synonyms, strict=True)), names)
    require_one_numbering(dict(zip(folders, padded, strict=True)))
    with pytest.raises(MismatchError):
        require_one_numbering(dict(zip(folders, synonyms, strict=True)))


def test_the_plan_tells_the_numbers_of_classes_that_have_names(running, bases, shards, tmp_path):
    (run,) = running.prepared_runs(bases["class"], [shards["class"]], tmp_path)

    assert "classes by number: blue 0, green 1, red 2" in run.plan.notices
