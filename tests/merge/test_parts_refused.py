"""Parts that do not fit each other, their inputs or their output are refused by name."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import files, save
from safetensors.numpy import load_file
from soup_parts import F16, join, part, request, save_ingredients, save_quantised

import soupctl.merge.parts.found
from soupctl import verbs
from soupctl.choices import Quantization
from soupctl.errors import InputError, LedgerError, MismatchError, OutputError, UsageError
from soupctl.format.dtypes import DType
from soupctl.verbs import Ingredient


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three checkpoints of ten tensors in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_ingredients()
    return tmp_path


def test_an_input_that_changed_after_a_part_was_made_makes_it_stale(place):
    part(1, 2)
    os.utime("b.st", ns=(1, 1))
    part(2, 2)
    with pytest.raises(OutputError, match=r"b\.st: changed after part 1/2 was made") as caught:
        join()

    assert 6 == caught.value.exit_code
    assert "again" in caught.value.issues[0].advice
    part(1, 2)
    join()


def test_an_input_with_other_tensors_makes_every_part_stale(place):
    part(1, 1)
    time = os.stat("b.st").st_mtime_ns
    size = os.stat("b.st").st_size
    values = load_file("b.st")
    values["w0"] = values["w0"].astype(np.float16) + 1
    save(Path("b.st"), {"format": "pt"}, **values)
    assert size == os.stat("b.st").st_size
    os.utime("b.st", ns=(time + 1, time + 1))
    with pytest.raises(OutputError, match=r"changed after part 1/1"):
        join()


def test_an_input_that_changes_while_parts_are_joined_leaves_no_soup(place, monkeypatch):
    part(1, 1)
    with verbs.open_parted("soup.st") as parted:
        os.utime("a.st", ns=(1, 1))
        with pytest.raises(OutputError, match=r"a\.st: changed"):
            verbs.commit(parted)

    assert not Path("soup.st").exists()
    assert Path("soup.st.parts/1-of-1.safetensors").exists()


@pytest.mark.parametrize(
    "other",
    [
        {"dtype": DType.F32},
        {"names": ("a.st", "c.st", "b.st")},
        {"names": (Ingredient("a.st", Fraction(2)), "b.st", "c.st")},
        {"excludes": ("w0",)},
    ],
    ids=["dtype", "order", "weight", "selection"],
)
def test_a_part_of_another_plan_is_refused(place, other):
    names = other.pop("names", ())
    part(1, 2)
    part(2, 2, request("soup.st", *names, **other))
    with pytest.raises(MismatchError, match=r"2-of-2.*is of another plan than part 1/2"):
        join()


def test_a_part_of_another_version_is_refused(place, monkeypatch):
    monkeypatch.setattr(soupctl.merge.parts.found, "__version__", "99.0")
    part(1, 1)
    with pytest.raises(MismatchError, match=r"was made by soupctl .*, and this is 99\.0"):
        join()


def test_missing_parts_are_named(place):
    for number in (1, 3, 7):
        part(number, 8)
    with pytest.raises(InputError, match=r"soup\.st\.parts: lacks parts 2, 4-6, 8 of 8 \(.*2/8"):
        join()


def test_an_output_without_parts_is_refused(place):
    with pytest.raises(InputError, match=r"^soup\.st: has no parts"):
        join()
    Path("soup.st.parts").mkdir()
    with pytest.raises(InputError, match=r"^soup\.st: has no parts"):
        join()


def test_parts_of_two_divisions_are_refused(place):
    part(1, 2)
    part(1, 3)
    with pytest.raises(MismatchError, match="holds parts of 2 and of 3"):
        join()


def test_a_part_under_another_number_is_refused(place):
    path = part(1, 2)
    shutil.copy(path, path.with_name("2-of-2.safetensors"))
    with pytest.raises(MismatchError, match="holds part 1/2 under another name"):
        join()


def test_another_file_among_the_parts_is_refused(place):
    path = part(1, 1)
    shutil.copy(path, path.with_name("copy.safetensors"))
    with pytest.raises(MismatchError, match=r"copy\.safetensors: is not a part"):
        join()
    path.with_name("copy.safetensors").unlink()
    shutil.copy("a.st", path)
    with pytest.raises(InputError, match="is not a part of a soup"):
        join()


def test_a_part_with_any_byte_changed_is_refused(place):
    """A bit of the data, the record or the header: never a soup, always one line."""
    path = part(1, 1)
    raw = path.read_bytes()
    for offset in (*range(0, len(raw), len(raw) // 60), len(raw) - 1):
        path.write_bytes(raw[:offset] + bytes([raw[offset] ^ 1]) + raw[offset + 1 :])
        with pytest.raises((InputError, MismatchError)):
            join()
        assert not Path("soup.st").exists()
    path.write_bytes(raw[:-1])
    with pytest.raises(InputError, match="cut off"):
        join()
    path.write_bytes(raw)
    join()


def test_a_tensor_changed_in_a_part_is_named(place):
    path = part(1, 1)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(InputError, match=r"1-of-1\.safetensors: w7: was changed") as caught:
        join()
    assert 3 == caught.value.exit_code


def test_an_input_whose_ledger_does_not_fit_is_refused_when_parts_are_joined(place):
    verbs.average(request("first.st", "a.st", "b.st"))
    raw = bytearray(Path("first.st").read_bytes())
    raw[-1] ^= 1
    Path("first.st").write_bytes(raw)
    asked = request("soup.st", "first.st", "c.st")
    for number in (1, 2):
        part(number, 2, asked)
    with pytest.raises(LedgerError, match="its ledger does not match its tensors"):
        join()

    assert not Path("soup.st").exists()


def test_an_existing_output_is_kept_by_parts_and_by_joining(place):
    part(1, 1)
    Path("soup.st").write_bytes(b"precious")
    for make in (lambda: part(1, 1), join):
        with pytest.raises(OutputError, match=r"soup\.st: exists"):
            make()
    assert b"precious" == Path("soup.st").read_bytes()
    part(1, 1, force=True)
    join(force=True)
    assert b"precious" != Path("soup.st").read_bytes()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"keep_sum": True}, "--keep-sum"),
        ({"quantize": Quantization.FP8_SCALED}, "--quantize"),
        ({"check_blobs": True}, "--check-blobs"),
    ],
)
def test_what_is_not_made_in_parts_is_refused_by_name(place, more, what):
    with pytest.raises(UsageError) as caught:
        part(1, 2, request(**more))
    assert f"--part and {what} exclude each other" == caught.value.issues[0].what


@pytest.mark.parametrize("names", [("-", "a.st"), ("gs://bucket/model.st", "a.st")])
def test_streams_and_addresses_are_refused(place, names):
    with pytest.raises(UsageError, match="files"):
        part(1, 2, request("soup.st", *names))


def test_quantised_weights_are_refused(place):
    save_quantised("x.st", "y.st")
    with pytest.raises(UsageError, match=r"x\.st: .*quantised weights.*convert"):
        part(1, 2, request("soup.st", "x.st", "y.st"))


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "1", "1/2/3", "a/b", "-1/4", "1/10001", "²/4"]
)
def test_parts_that_do_not_exist_are_refused(text):
    with pytest.raises(UsageError):
        verbs.parse_part(text)


def test_parts_are_made_for_the_output_that_they_lie_beside(place):
    part(1, 1)
    Path("soup.st.parts").rename("other.st.parts")
    with pytest.raises(UsageError, match=r"other\.st: its parts were made for .*soup\.st"):
        join("other.st")


def test_failing_parts_leave_the_folder_as_it_was(place):
    before = files(place)
    save(Path("nan.st"), **{**load_file("a.st"), "w3": np.full((4, 7), np.nan, F16)})
    after = files(place)
    with pytest.raises(InputError, match="w3"):
        part(1, 1, request("soup.st", "nan.st", "b.st"))
    assert after == {**before, **after}
    assert [] == os.listdir("soup.st.parts")
