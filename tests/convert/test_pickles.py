"""Checkpoints that torch has saved are read as data; what is more than data is refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
from making import contents

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from soupctl import verbs
from soupctl.errors import InputError, UsageError
from soupctl.verbs import ConvertRequest


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def convert(**options):
    verbs.convert(ConvertRequest("a.ckpt", "out.st", **options), force=True)
    return load_file("out.st")


def require_equal(expected, found):
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert (tensor.dtype, tensor.shape) == (found[name].dtype, found[name].shape)
        bits = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(bits, found[name].reshape(-1).view(torch.uint8)), name


def dtypes():
    values = torch.tensor([0.0, -0.0, 1.5, -2.0])
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    eights = (torch.float8_e4m3fn, torch.float8_e5m2)
    found = {str(kind): values.to(kind) for kind in (*floats, *eights)}
    for kind in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool):
        found[str(kind)] = torch.tensor([1, 0, 1]).to(kind)
    return found


def test_tensors_of_every_dtype_are_read_bit_for_bit():
    state = dtypes()
    torch.save(state, "a.ckpt")

    require_equal(state, convert())


def test_views_shared_storages_and_parameters_are_what_torch_loads():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(
        whole=base,
        shared=base,
        rows=base[1:3],
        turned=base.t(),
        column=base[:, 2],
        last=base.reshape(2, 2, 2, 3).contiguous(memory_format=torch.channels_last),
        parameter=torch.nn.Parameter(base[0]),
        scalar=torch.tensor(3.0),
        none=torch.zeros(0, 3),
    )
    torch.save(state, "a.ckpt")

    require_equal(torch.load("a.ckpt", weights_only=True), convert())


def test_nested_dicts_are_found_or_chosen():
    one, two = ({"w": torch.full((2,), float(n))} for n in (1, 2))
    torch.save({"state_dict": one, "ema": two, "epoch": 3, "opt": [{"lr": 0.1}]}, "a.ckpt")
    require_equal(one, convert())
    require_equal(two, convert(entry="ema"))
    with pytest.raises(UsageError, match="entry 'epoch' holds no tensors"):
        convert(entry="epoch")

    torch.save({"model": one, "ema": {"shadow": two}, "best": two}, "a.ckpt")
    with pytest.raises(UsageError, match=r"has tensors in best, model \(entry=NAME chooses|entry"):
        convert()
    require_equal(two, convert(entry="ema.shadow"))


def test_only_checkpoints_of_torch_have_entries():
    torch.save({"w": torch.ones(2)}, "a.ckpt")
    convert()

    with pytest.raises(UsageError, match="entry goes with a checkpoint that torch has saved"):
        verbs.convert(ConvertRequest("out.st", "x.st", entry="w"))


class Harm:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


HARMFUL = {
    "system": (os.system, ("touch harmed",)),
    "eval": (eval, ("open('harmed', 'w')",)),
    "getattr": (getattr, ("x", "upper")),
    "importer": (__import__, ("os",)),
}


@pytest.mark.parametrize("name", HARMFUL)
@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_runs_none(name, nested):
    harm = Harm(HARMFUL[name])
    torch.save({"w": torch.ones(2), "x": [{"y": (harm,)}] if nested else harm}, "a.ckpt")

    with pytest.raises(InputError, match="which no checkpoint needs; nothing was run") as caught:
        convert()

    assert "\n" not in str(caught.value)
    assert ["a.ckpt"] == os.listdir()


def saved(change=None, extra=(), method=zipfile.ZIP_STORED, pickled=None):
    """Save a checkpoint of one tensor anew, with some of its members changed."""
    torch.save({"w": torch.arange(6, dtype=torch.float32)}, "good.ckpt")
    with zipfile.ZipFile("good.ckpt") as archive:
        members = {each.filename: archive.read(each) for each in archive.infolist()}
    Path("good.ckpt").unlink()
    (place,) = (name for name in members if name.endswith("data.pkl"))
    if pickled is not None:
        members[place] = pickled
    for end, data in (change or {}).items():
        (name,) = (each for each in members if each.endswith(end))
        members[name] = data
    with zipfile.ZipFile("a.ckpt", "w", method) as archive:
        for name, data in (*members.items(), *extra):
            archive.writestr(name, data)


def described(count=6, offset=0, shape=(6,), strides=(1,), key="0", name="w"):
    """The pickle of one tensor, as torch writes it."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, str) and value == "storage!":
                return ("storage", torch.FloatStorage, key, "cpu", count)
            return None

    class Described:
        def __reduce__(self):
            arguments = ("storage!", offset, shape, strides, False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    data = io.BytesIO()
    Pickler(data, 2).dump({name: Described()})
    return data.getvalue()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"offset": 1}, "lies outside of its storage"),
        ({"offset": -1}, "is not described soundly"),
        ({"shape": (7,)}, "lies outside of its storage"),
        ({"shape": (-2, -3), "strides": (3, 1)}, "is not described soundly"),
        ({"shape": (2, 3), "strides": (1,)}, "is not described soundly"),
        ({"strides": (-1,)}, "is not described soundly"),
        ({"shape": (10**9,), "strides": (0,)}, "repeats its elements"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, "repeats its elements"),
        ({"shape": [6]}, "is not described soundly"),
        ({"shape": (2**61, 32, 0), "strides": (1, 1, 1)}, "has a size that does not fit"),
        ({"key": "../../x"}, "is not described soundly"),
        ({"key": 3}, "has no storage"),
    ],
)
def test_a_tensor_that_is_not_in_the_file_is_refused(options, what):
    saved(pickled=described(**options))

    with pytest.raises(InputError, match=f"a.ckpt: w: {what}"):
        convert()

    assert not Path("out.st").exists()


def test_a_tensor_cannot_have_the_name_of_metadata():
    saved(pickled=described(name="__metadata__"))

    with pytest.raises(InputError, match="__metadata__: is not a name that a tensor can have"):
        convert()


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((1,) * 80 + (3, 2), (1,) * 81 + (3,)), ((3, 1, 2), (1, 2**70, 3))],
)
def test_a_dimension_of_one_element_does_not_matter_in_a_view(shape, strides):
    saved(pickled=described(shape=shape, strides=strides))

    found = convert()["w"]

    assert found.shape == shape
    assert found.flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_views_that_share_a_storage_too_often_are_refused():
    base = torch.zeros(600, 700)
    torch.save({str(n): base.T for n in range(12)}, "a.ckpt")

    with pytest.raises(InputError, match="share storages too often"):
        convert()


def test_the_description_above_is_sound_as_it_stands():
    saved(pickled=described())

    require_equal({"w": torch.arange(6, dtype=torch.float32)}, convert())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"change": {"byteorder": b"big"}}, "another order of bytes"),
        ({"method": zipfile.ZIP_DEFLATED}, "is compressed"),
        ({"pickled": b"\x80\x02}q\x00"}, "its pickle is damaged|its pickle ends early"),
        ({"pickled": b"\x80\x02K\x01."}, "holds no dict of tensors"),
        ({"pickled": b"\x80\x02}."}, "holds no dict of tensors"),
        ({"pickled": b"cos\nsystem\n."}, "names 'os.system'"),
        ({"pickled": b"\x80\x04\x8c\x02os\x8c\x06system\x93."}, "names 'os.system'"),
        ({"pickled": b"ios\nsystem\n."}, "its pickle has the instruction INST|is damaged"),
        ({"pickled": b"\x80\x02h\x07."}, "its pickle is damaged"),
        ({"pickled": b"\x80\x02t."}, "its pickle is damaged"),
        ({"pickled": b"\x80\x02" + b"(" * 100_000 + b"."}, "its pickle is damaged"),
        ({"extra": [("archive/other/data.pkl", b"")]}, "not of a checkpoint that torch saved"),
    ],
)
def test_an_archive_that_torch_would_not_write_is_refused(options, what):
    saved(**options)

    with pytest.raises(InputError, match=what) as caught:
        convert()

    assert "\n" not in str(caught.value)


def test_members_that_overlap_are_refused():
    saved()
    data = bytearray(Path("a.ckpt").read_bytes())
    end = data.rindex(b"PK\x05\x06")
    (directory,) = struct.unpack("<I", data[end + 16 : end + 20])
    second = data.index(b"PK\x01\x02", directory + 4)
    data[second + 42 : second + 46] = data[directory + 42 : directory + 46]
    Path("a.ckpt").write_bytes(data)

    with pytest.raises(InputError, match=r"overlaps another|is damaged|is not a whole zip"):
        convert()


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_checkpoint_that_is_cut_off_is_refused(share):
    saved()
    data = Path("a.ckpt").read_bytes()
    Path("a.ckpt").write_bytes(data[: int(len(data) * share)])

    with pytest.raises(InputError, match="is not a whole zip archive"):
        convert()


def test_formats_of_torch_before_zip_files_are_refused():
    torch.save({"w": torch.ones(2)}, "a.ckpt", _use_new_zipfile_serialization=False)

    with pytest.raises(InputError, match="is a pickle, not safetensors"):
        convert()


def test_a_checkpoint_of_torch_changes_its_layout_and_dtype_in_the_same_pass():
    torch.save({"state_dict": {"a.weight": torch.ones(2), "ids": torch.tensor([1])}}, "a.ckpt")

    convert(dtype=verbs.DType.F16)

    assert {"F16", "I64"} == {dtype for dtype, *_ in contents(Path("out.st")).values()}
