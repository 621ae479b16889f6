"""Packed images are read as they lie on disk: Parquet, Arrow as `datasets` saves it, webdataset."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("torch")

import pyarrow as pa
import pyarrow.parquet as pq

from soupctl.diffusion.base import Conditioning
from soupctl.errors import InputError, LimitError, OutputError
from soupctl.ledger.data_shard import images_digest
from soupctl.training.dataset import Dataset, read_unchanged, scan_dataset
from soupctl.training.packed import packed_images

TEXT, LABEL, NONE = Conditioning.TEXT, Conditioning.LABEL, Conditioning.NONE


def encoded(red: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def table(**more: list[object]) -> pa.Table:
    images = [{"bytes": encoded(red), "path": None} for red in range(3)]
    return pa.table({"image": images, "text": ["a cat", "a dog", "an owl"], **more})


def tarred(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def told(found: Dataset) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(each.name, each.captions, each.label) for each in found.samples]


def refusal(folder: Path, kind: Conditioning = TEXT) -> str:
    with pytest.raises((InputError, LimitError)) as refused:
        scan_dataset(folder, kind)
    return refused.value.message()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write_parquet(folder: Path, rows: pa.Table) -> None:
    pq.write_table(rows, folder / "part.parquet")


def write_stream(folder: Path, rows: pa.Table) -> None:
    with pa.ipc.new_stream(folder / "part.arrow", rows.schema) as writer:
        writer.write_table(rows)


def write_file(folder: Path, rows: pa.Table) -> None:
    with pa.ipc.new_file(folder / "part.arrow", rows.schema) as writer:
        writer.write_table(rows)


@pytest.mark.parametrize("write", [write_parquet, write_stream, write_file])
def test_rows_with_the_bytes_of_images_are_images(data, write):
    write(data, table(label=[0.0, 1.0, 0.0]))

    found = scan_dataset(data, TEXT)

    assert told(found) == [
        ("part-000000.png", ("a cat",), "0"),
        ("part-000001.png", ("a dog",), "1"),
        ("part-000002.png", ("an owl",), "0"),
    ]
    assert [read_unchanged(each) for each in found.samples] == [encoded(red) for red in range(3)]
    assert found.folder == data
    (notice,) = found.notices
    assert notice.startswith("packed images of part.")


def test_they_are_the_data_shard_of_the_same_images_in_a_folder(data, tmp_path):
    write_parquet(data, table())
    folder = tmp_path / "plain"
    folder.mkdir()
    for number, text in enumerate(("a cat", "a dog", "an owl")):
        (folder / f"part-{number:06}.png").write_bytes(encoded(number))
        (folder / f"part-{number:06}.txt").write_text(text)

    assert scan_dataset(data, TEXT).digest == images_digest(folder).digest


def test_plain_bytes_other_captions_and_several_texts_are_read(data):
    rows = {
        "id": [7],
        "jpg": [encoded(1, "JPEG")],
        "caption": [["a cat", "a pet"]],
    }
    write_parquet(data, pa.table(rows))

    found = scan_dataset(data, TEXT, column="caption")

    assert told(found) == [("part-000000.jpg", ("a cat", "a pet"), None)]
    assert "without a caption (no 'text' in part.parquet; caption-column in --config" in refusal(
        data
    )


def test_of_several_splits_only_that_for_training_is_used(data):
    (data / "data").mkdir()
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        pq.write_table(table(), data / "data" / f"{name}.parquet")
    (data / "test").mkdir()
    write_stream(data / "test", table())

    found = scan_dataset(data, NONE)

    assert [each.name[:19] for each in found.samples] == ["train-00000-of-0000"] * 3
    assert found.notices[1] == (
        "only the split for training is used, without data/test-00000-of-00001.parquet,"
        " test/part.arrow"
    )
    (data / "data/train-00000-of-00001.parquet").unlink()
    assert "has packed images of splits for testing only" in refusal(data)


@pytest.mark.parametrize("stem", ["cifar10-{}", "imagenet1k-{}-00000-of-00002", "{}", "a/{}_set/0"])
def test_the_split_of_packed_images_may_be_a_word_within_their_name(data, stem):
    for split in ("train", "test", "validation"):
        path = data / f"{stem.format(split)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(), path)

    found = scan_dataset(data, NONE)

    assert len(found.samples) == 3
    assert f"without {stem.format('test')}.parquet, {stem.format('validation')}" in found.notices[1]


def test_a_word_in_the_name_of_one_pack_leaves_no_other_out(data):
    for name in ("steam_train", "car"):
        pq.write_table(table(), data / f"{name}.parquet")

    assert len(scan_dataset(data, NONE).samples) == 6


def test_packed_files_beside_images_are_left_out_and_named(data):
    write_parquet(data, table())
    Image.new("RGB", (8, 8)).save(data / "preview.png")

    found = scan_dataset(data, NONE)

    assert ["preview.png"] == [each.name for each in found.samples]
    said = "1 packed file left out, because the folder has images: part.parquet"
    assert f"{said} (to use them, move the images elsewhere)" in found.notices


def test_a_folder_of_datasets_is_read_without_what_that_cached(data):
    (data / "train").mkdir()
    write_stream(data / "train", table())
    (data / "train/cache-1234.arrow").write_bytes(b"x")
    (data / "dataset_dict.json").write_text('{"splits": ["train"]}')

    assert len(scan_dataset(data, TEXT).samples) == 3


def test_a_webdataset_groups_files_by_name(data):
    tarred(
        data / "00000.tar",
        {
            "0001.jpg": encoded(1, "JPEG"),
            "0001.txt": b"a cat\na pet\n",
            "0001.seg.png": encoded(9),
            "cat/0002.cls": b"4",
            "cat/0002.png": encoded(2),
            "cat/0002.json": json.dumps({"caption": "a dog", "width": 8, "nsfw": None}).encode(),
            "notes.md": b"x",
        },
    )
    tarred(data / "00001.tar", {"0001.jpg": encoded(3, "JPEG"), "0001.txt": b"an owl"})

    found = scan_dataset(data, TEXT)

    assert told(found) == [
        ("00001-0001.jpg", ("an owl",), None),
        ("0001.jpg", ("a cat", "a pet"), None),
        ("cat/0002.png", ("a dog",), "4"),
    ]


def test_images_in_folders_of_a_tar_file_have_classes(data):
    tarred(data / "x.tar", {"cat/a.png": encoded(1), "dog/b.png": encoded(2)})

    assert [each.label for each in scan_dataset(data, LABEL).samples] == ["cat", "dog"]


def test_nothing_in_a_tar_file_leads_out_of_the_folder(data, scans):
    tarred(data / "x.tar", {"../../a.png": encoded(1), "/b.png": encoded(2), "c.png": encoded(3)})
    with tarfile.open(data / "x.tar", "a") as tar:
        link = tarfile.TarInfo("d.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)

    assert [each.name for each in scan_dataset(data, NONE).samples] == ["c.png"]
    assert [path.name for path in scans.parent.rglob("*.png")] == ["c.png"]


def test_rows_without_an_image_or_a_caption_are_bad_images(data):
    rows = table().to_pydict()
    rows["image"][1] = {"bytes": None, "path": "b.png"}
    rows["text"][2] = None
    write_parquet(data, pa.table(rows))

    message = refusal(data)
    kept = scan_dataset(data, TEXT, skip_bad=True)

    assert "1 image without bytes: part-000001.png" in message
    assert "1 image without a caption" in message
    assert [each.name for each in kept.samples] == ["part-000000.png"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.parquet", b"not parquet", "x.parquet: cannot be read: "),
        ("x.arrow", b"not arrow", "x.arrow: cannot be read: "),
        ("x.tar", b"not a tar file", "x.tar: cannot be read: "),
        ("x.tar.gz", b"\x1f\x8b\x08broken", "x.tar.gz: cannot be read: "),
    ],
)
def test_a_broken_file_is_named_and_leaves_nothing_unpacked(data, scans, name, content, reason):
    (data / name).write_bytes(content)

    message = refusal(data)
    assert reason in message
    assert "\n" not in message
    assert not list((scans.parent / "data").glob("*/images"))


def test_an_arrow_file_whose_offsets_lead_elsewhere_is_refused(data):
    images = [encoded(red) for red in range(3)]
    write_stream(data, pa.table({"image": images}))
    ends = [sum(map(len, images[:count])) for count in range(4)]
    raw = (data / "part.arrow").read_bytes()
    assert raw.count(struct.pack("<4i", *ends)) == 1
    forged = raw.replace(struct.pack("<4i", *ends), struct.pack("<4i", 0, 1 << 29, 2, 1 << 30))
    (data / "part.arrow").write_bytes(forged)

    assert "part.arrow: cannot be read: In column 0" in refusal(data)


def test_columns_of_other_kinds_are_left_unread(data):
    nested = [{"bytes": {"bytes": b"x"}, "path": 1}] * 3
    late = pa.array([2**62] * 3, pa.timestamp("s"))
    write_file(data, table(nested=nested, late=late, path=[b"\xff"] * 3))

    assert [each.captions for each in scan_dataset(data, TEXT).samples] == [
        ("a cat",),
        ("a dog",),
        ("an owl",),
    ]
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array([b"y"])], names=["image", "image"])
    write_file(data, twice)
    assert "has two columns named 'image'" in refusal(data)


@pytest.mark.parametrize("at", [0, 1])
def test_a_damaged_header_in_a_tar_file_is_no_end(data, at):
    tarred(data / "x.tar", {name: encoded(1) for name in ("a.png", "b.png", "c.png")})
    raw = bytearray((data / "x.tar").read_bytes())
    raw[raw.index(b"b.png") + at] ^= 1
    (data / "x.tar").write_bytes(raw)

    assert "x.tar: cannot be read: bad checksum" in refusal(data, NONE)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_that_claim_gigabytes_are_not_read(data, kind):
    long = tarfile.TarInfo("a")
    long.type, long.size = kind, 1 << 33
    (data / "x.tar").write_bytes(long.tobuf(tarfile.GNU_FORMAT) + bytes(20_000))

    assert "x.tar: cannot be read: " in refusal(data, NONE)


def test_files_of_one_name_are_no_larger_than_an_image(data, monkeypatch):
    tarred(data / "x.tar", {"a.png": encoded(1), "a.bin": bytes(9000), "a.txt": b"x" * 900})
    assert len(scan_dataset(data, NONE, skip_bad=True).samples) == 1

    monkeypatch.setattr("soupctl.training.packed.LARGEST_FILE", 900)
    os.utime(data / "x.tar", (1, 1))
    assert "of more than 900 bytes: a.txt" in refusal(data, NONE)


def test_a_file_made_to_fill_the_disk_is_refused(data, scans, monkeypatch):
    monkeypatch.setattr("soupctl.training.unpack.LARGEST_FILE", 100_000)
    with tarfile.open(data / "x.tar.gz", "w:gz") as tar:
        for number in range(40):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 100_000
            tar.addfile(member, io.BytesIO(bytes(100_000)))

    assert "x.tar.gz: would be unpacked to more than 100 times its size" in refusal(data, NONE)
    assert not [*scans.parent.rglob("*.png")]


@pytest.mark.parametrize("names", [("a.png", "a.png/b.png"), (f"{'n' * 300}.png",)])
def test_names_that_no_files_can_have_are_refused(data, names):
    tarred(data / "x.tar", {name: encoded(1) for name in names})

    assert "x.tar: has a name that cannot be unpacked: " in refusal(data, NONE)


def test_a_file_that_changes_while_it_is_unpacked_is_an_error(data, monkeypatch):
    write_parquet(data, table())
    unpack = sys.modules["soupctl.training.unpack"]

    def changing(name: str, path: Path):
        os.utime(path, (1, 1))
        return packed_images(name, path)

    monkeypatch.setattr(unpack, "packed_images", changing)
    with pytest.raises(OutputError) as refused:
        scan_dataset(data, TEXT)
    assert "part.parquet: changed while it was unpacked (run it again)" in refused.value.message()


def test_a_broken_link_to_a_packed_file_is_named(data):
    (data / "x.tar").symlink_to("/nowhere/at/all")

    assert "x.tar: cannot be read: No such file or directory" in refusal(data)


def test_a_file_without_images_is_told_with_its_columns(data):
    write_parquet(data, pa.table({"url": ["x"], "text": ["y"]}))

    assert "has no column with the bytes of images (its columns: url, text)" in refusal(data)


def test_without_pyarrow_the_extra_is_named(data, monkeypatch):
    write_parquet(data, table())
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert "pyarrow (pip install 'soupctl[data]')" in refusal(data)


def test_unpacked_images_are_found_again_until_the_file_changes(data):
    write_parquet(data, table())
    first, second = (scan_dataset(data, TEXT) for _ in range(2))
    write_parquet(data, table().slice(1))
    third = scan_dataset(data, TEXT)

    assert first.samples == second.samples
    assert [each.captions for each in third.samples] == [("a dog",), ("an owl",)]


def test_a_table_of_images_may_be_a_parquet_file(data):
    for number, name in enumerate(("a.png", "b.png")):
        (data / name).write_bytes(encoded(number))
    rows = {"file_name": ["a.png", "b.png"], "text": ["a cat", None], "label": [1.0, None]}
    pq.write_table(pa.table(rows), data / "metadata.parquet")

    found = scan_dataset(data, NONE)

    assert told(found) == [("a.png", ("a cat",), "1"), ("b.png", (), None)]
    assert images_digest(data).digest == found.digest
    assert "no 'text' in metadata.parquet" in refusal(data)
    (data / "b.png").unlink()
    assert "1 image in metadata.parquet but missing: b.png" in refusal(data, NONE)


def test_a_run_on_packed_images_resumes_and_is_named_by_its_folder(data, tmp_path, bases, running):
    write_parquet(data, table())
    spy = running.ReporterSpy()
    running.run(bases["plain"], data, tmp_path / "run", spy, steps=1)
    running.run(bases["plain"], data, tmp_path / "run", spy, steps=2)

    record = json.loads((tmp_path / "run/soupctl.json").read_text())
    assert [spy.steps, record["finished"]] == [[1, 2], True]
    assert record["data"]["path"] == str(data)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("train-0", "validation-0", "test-0"), "validation-0"),
        (("train-0", "test-0"), "test-0"),
        (("val-0",), "val-0"),
        (("train-0",), "train-0"),
    ],
)
def test_the_validation_loss_is_that_of_the_split_for_validation(data, names, chosen):
    for red, name in enumerate(names):
        tarred(data / f"{name}.tar", {f"{name}.png": encoded(red), f"{name}.txt": b"a cat"})

    found = scan_dataset(data, TEXT, option="--validate")

    assert [f"{chosen}.png"] == [each.name for each in found.samples]
    left_out = ", ".join(f"{name}.tar" for name in sorted(names) if name != chosen)
    said = f"only the split for validation is used, without {left_out}"
    assert (said in found.notices) is (len(names) > 1)


def test_one_of_several_columns_of_images_is_not_chosen_silently(data):
    rows = table().rename_columns(["target", "text"])
    pq.write_table(rows.append_column("input", rows["target"]), data / "a.parquet")

    assert refusal(data) == (
        f"{data}/a.parquet: has several columns with the bytes of images: target, input"
        " (rename the column of the images to train on to image)"
    )


IMAGE = encoded(1)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ["0.png", "1.png", "0.txt", "1.txt"],
            (
                "has files of one name in several places, which do not belong together: 0.txt"
                " (pack it with tar --sort=name)"
            ),
        ),
        (
            ["0.jpg", "0.png", "0.txt"],
            (
                "has several images of one name: 0.jpg, 0.png"
                " (unpack it, and leave only one of them)"
            ),
        ),
        (
            ["a.png", "photo.v2.png"],
            (
                "has no image photo.png, but photo.v2.png (a name ends at its first dot in a"
                " webdataset; unpack it to use such images)"
            ),
        ),
        (
            ["a.png", "metadata.jsonl"],
            "has a table, which is not read inside a tar file: metadata.jsonl (unpack it)",
        ),
    ],
)
def test_nothing_of_a_tar_file_is_left_out_or_mixed_up_silently(data, files, told):
    tarred(data / "a.tar", dict.fromkeys(files, IMAGE))

    assert refusal(data, NONE) == f"{data}/a.tar: {told}"


def test_other_pictures_beside_the_image_of_a_sample_are_not_read(data):
    tarred(data / "a.tar", {"0.jpg": IMAGE, "0.depth.png": b"x", "0.txt": b"a cat"})

    assert told(scan_dataset(data, TEXT)) == [("0.jpg", ("a cat",), None)]


def test_the_table_that_img2dataset_writes_beside_a_tar_file_is_not_read(data):
    tarred(data / "00000.tar", {"0.jpg": IMAGE, "0.txt": b"a cat"})
    pq.write_table(pa.table({"url": ["u"]}), data / "00000.parquet")

    found = scan_dataset(data, TEXT)

    assert told(found) == [("0.jpg", ("a cat",), None)]
    assert "not read, beside tar files of the same name: 00000.parquet" in found.notices


@pytest.mark.parametrize("name", ["a.tar", "a.parquet", "a.arrow"])
def test_a_packed_file_that_git_lfs_has_not_fetched_is_named_as_such(data, name):
    (data / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")

    assert refusal(data) == f"{data}/{name}: is a pointer of Git LFS (git lfs pull)"
