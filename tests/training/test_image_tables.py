"""Tables beside images give their captions and labels, whichever program wrote them."""

from __future__ import annotations

import json
import tracemalloc
import unicodedata

import pytest
from data_folders import LABEL, NONE, TEXT, dataset, images, refusal

from soupctl.ledger.data_shard import data_digest, images_digest
from soupctl.ledger.image_tables import read_metadata


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


def test_a_null_caption_is_a_missing_one(tmp_path):
    images(tmp_path, "a.png", "b.png")
    rows = ({"file_name": "a.png", "text": None}, {"file_name": "b.png", "text": " "})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))

    told = refusal(tmp_path, TEXT)

    assert "malformed" not in told
    assert "caption-column in --config names another field): a.png" in told
    assert "1 image with an empty caption: b.png" in told


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
        (b"image;text\na.png;a cat\n", "no file_name, but image;text"),
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


def test_a_caption_in_a_csv_file_may_be_long(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text(f"file_name,text\na.png,{'x' * 200_000}\n")

    assert dataset.scan_dataset(tmp_path, TEXT).samples[0].captions == ("x" * 200_000,)


@pytest.mark.parametrize(
    "content",
    [
        "\ufefffile_name,text\na.png,a cat\n",
        "file_name;text\na.png;a cat\n",
        "file_name\ttext\na.png\ta cat\n",
        '"file_name";"text"\r\n"a.png";"a cat"\r\n',
        "file_name, text\na.png, a cat\n",
    ],
)
def test_a_csv_file_is_read_as_spreadsheets_and_people_write_it(tmp_path, content):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_bytes(content.encode())

    (sample,) = dataset.scan_dataset(tmp_path, TEXT).samples

    assert sample.captions == ("a cat",)
    assert images_digest(tmp_path).digest == data_digest([sample])


def test_a_table_without_a_sound_line_is_refused_for_that_alone(tmp_path):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text("image,prompt\na.png,a cat\nb.png,a dog\n")

    assert refusal(tmp_path, TEXT) == (
        f"{tmp_path}: 2 images described by a malformed line of metadata.csv (no file_name, but"
        " image, prompt): line 2, line 3 (each line needs file_name, and a caption or a label)"
    )


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_a_table_is_the_same_composed_or_not(tmp_path, forms):
    name, listed = (unicodedata.normalize(form, "\u00e9.png") for form in forms)
    images(tmp_path, name)
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": listed, "text": "a cat"}))

    (sample,) = dataset.scan_dataset(tmp_path, TEXT).samples

    assert (sample.name, sample.captions) == (name, ("a cat",))
    assert images_digest(tmp_path).digest == data_digest([sample])


def test_half_a_character_in_json_is_a_bad_caption(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a \\ud83d"}')

    assert "1 image with a caption that is not valid UTF-8: a.png" in refusal(tmp_path, TEXT)


def test_half_a_character_in_a_name_or_split_can_be_told(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "b\\ud83d.png"}\n{"file_name": "a.png", "split": "test\\ud83d"}\n'
    )

    notices = dataset.scan_dataset(tmp_path, NONE, skip_bad=True).notices

    assert notices[0].startswith("1 image in metadata.jsonl but missing: b")
    assert "".join(notices).encode()


def test_spaces_around_a_label_are_not_part_of_it(tmp_path):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,cat \nb.png, cat\n")

    found = dataset.scan_dataset(tmp_path, LABEL)

    assert ["cat", "cat"] == [each.label for each in found.samples]
