"""Parts of a soup: the same bytes as one that is made at once, and refused if they do not fit."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import files, save, save_raw
from processes import started
from safetensors.numpy import load_file

import soupctl.merge.parts.found
import soupctl.merge.parts.make
from soupctl import verbs
from soupctl.choices import OnInt, OnMissing, Quantization
from soupctl.errors import (
    InputError,
    LedgerError,
    MismatchError,
    OutputError,
    UsageError,
)
from soupctl.format.dtypes import DType
from soupctl.merge.parts.request_json import decode_request, encode_request
from soupctl.verbs import (
    BlockWeights,
    ClassicBlocks,
    ExecutionOptions,
    Ingredient,
    PartOfPlan,
    Request,
)

F16 = np.float16
NAMES = ("a.st", "b.st", "c.st")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three checkpoints of ten tensors in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(NAMES):
        draw = np.random.default_rng(seed)
        weights = {f"w{n}": draw.normal(0, 1, (n + 1, 7)).astype(F16) for n in range(8)}
        save(Path(name), {"format": "pt"}, **weights, count=np.int64(seed), same=np.ones(3))
    return tmp_path


def request(output: str = "soup.st", *names: str, **more: object) -> Request:
    return Request(names or NAMES, output, on_int=OnInt.FIRST, **more)


def part(number: int, count: int, asked: Request | None = None, **more: object) -> Path:
    with verbs.open_part(asked or request(), PartOfPlan(number, count)) as planned:
        return verbs.make_part(planned, **more)


def join(output: str = "soup.st", **more: object) -> tuple[verbs.ComponentResult, ...]:
    with verbs.open_parted(output) as parted:
        return verbs.commit(parted, **more)


def made_at_once(asked: Request) -> dict[str, bytes]:
    """The files of the soup that the request makes without parts, which is removed again."""
    verbs.average(asked)
    output = Path(asked.output)
    found = contents_of(output)
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    return found


def contents_of(output: Path) -> dict[str, bytes]:
    every = [path for path in output.rglob("*") if path.is_file()] if output.is_dir() else [output]
    return {str(path): path.read_bytes() for path in every}


@pytest.mark.parametrize("count", [1, 2, 4, 1000])
def test_parts_in_any_order_make_the_bytes_of_a_soup_made_at_once(place, count, monkeypatch):
    if count > 4:
        # a disk takes milliseconds for each file
        monkeypatch.setattr(os, "fsync", lambda _: None)
    whole = made_at_once(request())
    numbers = [*range(1, count + 1)]
    random.Random(count).shuffle(numbers)
    for number in numbers:
        part(number, count, execution=ExecutionOptions(1))
    (made,) = join()

    assert whole == contents_of(Path("soup.st"))
    assert 10 == made.tensors
    assert "count" in made.ledger.integer_source.tensors
    assert not Path("soup.st.parts").exists()


def test_parts_of_all_options_make_the_same_bytes(place):
    save(Path("d.st"), w0=np.ones((1, 7), F16), more=np.ones(4, F16))
    asked = request(
        "soup.st",
        Ingredient("a.st", Fraction(1, 3)),
        Ingredient("b.st", Fraction(2)),
        "c.st",
        dtype=DType.F32,
        dtype_for=(("w1", DType.BF16),),
        excludes=("w7",),
        take=(("w0", "d.st"), ("w2", "b.st")),
        on_missing=OnMissing.KEEP,
        blocks=BlockWeights((("w3", (Fraction(1), Fraction(0), Fraction(1, 2))),)),
        round_weights=6,
    )
    whole = made_at_once(asked)
    for number in (3, 1, 4, 2):
        part(number, 4, asked)
    join()

    assert whole == contents_of(Path("soup.st"))


@pytest.mark.parametrize("count", [1, 3])
def test_parts_of_a_sharded_folder_make_the_same_files(place, count):
    for name in NAMES:
        save(Path(f"{name}.d", "model.safetensors"), **dict(load_file(name)))
        Path(f"{name}.d", "config.json").write_text("{}")
    asked = request("soup", *(f"{name}.d" for name in NAMES), shard_size=200, config_from="b.st.d")
    whole = made_at_once(asked)
    for number in range(1, count + 1):
        part(number, count, asked)
    join("soup/")

    assert whole == contents_of(Path("soup"))
    assert len(whole) > 4


def test_parts_of_a_pipeline_make_the_same_files(place):
    for seed, name in enumerate("pq"):
        for component in ("unet", "vae"):
            file = Path(name, component, "diffusion_pytorch_model.safetensors")
            save(file, {"format": "pt"}, w=np.full((3, 4), seed, F16), v=np.ones(5, F16))
            Path(name, component, "config.json").write_text("{}")
        Path(name, "model_index.json").write_text(
            json.dumps(
                {
                    "unet": ["diffusers", "UNet2DConditionModel"],
                    "vae": ["diffusers", "AutoencoderKL"],
                }
            )
        )
    asked = request("soup", "p", "q")
    whole = made_at_once(asked)
    for number in (2, 3, 1):
        part(number, 3, asked)
    join("soup")

    assert whole == contents_of(Path("soup"))


def test_inputs_of_equal_content_are_read_once_in_each_part(place):
    os.link("a.st", "again.st")
    shutil.copy("b.st", "copy.st")
    asked = request(
        "soup.st", "a.st", "again.st", "a.st", "b.st", "copy.st", take=(("w1", "a.st"),)
    )
    whole = made_at_once(asked)
    for number in (2, 1, 3):
        part(number, 3, asked)
    join()

    assert whole == contents_of(Path("soup.st"))


def test_a_soup_of_soups_in_parts_knows_their_ingredients(place):
    verbs.average(request("first.st", "a.st", "b.st"))
    asked = request("soup.st", "first.st", "c.st")
    whole = made_at_once(asked)
    for number in (1, 2):
        part(number, 2, asked)
    join()

    assert whole == contents_of(Path("soup.st"))


@pytest.mark.parametrize(
    "more",
    [
        {"blocks": ClassicBlocks(tuple(Fraction(n, 7) for n in range(26)))},
        {"blocks": BlockWeights((("x", (Fraction(1), Fraction(-1, 3))),), (Fraction(1), 2))},
        {"dtype": DType.BF16, "keys": ("a*",), "pad": ("in.*",), "normalize": False},
        {"component": "unet", "variant": "fp16", "shard_size": 7, "ignore_ledger": True},
        {"config_from": "/b.st", "allow_nonfinite": True, "round_weights": 3},
    ],
    ids="-".join,
)
def test_a_request_is_the_same_after_it_was_written_into_a_part(more):
    asked = Request([Ingredient("/a.st", Fraction(1, 3)), Ingredient("/b.st")], "/soup.st", **more)
    written = json.loads(json.dumps(encode_request(asked)))

    assert asked == decode_request(written)


def test_a_part_takes_no_more_than_its_share_and_one_tensor(place):
    sizes = []
    for number in range(1, 4):
        with verbs.open_part(request(), PartOfPlan(number, 3)) as planned:
            sizes.append(planned.read + planned.written)
            (component,) = planned.job.components
    largest = 4 * 8 * 7 * 2

    assert component.read + component.written == sum(sizes)
    assert max(sizes) <= sum(sizes) / 3 + largest


def test_parts_are_joined_from_another_folder(place, monkeypatch):
    whole = made_at_once(request())
    for number in (1, 2):
        part(number, 2)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    join("../soup.st")
    monkeypatch.chdir(place)

    assert whole == contents_of(Path("soup.st"))


def test_a_part_that_fails_leaves_no_file_and_is_made_again(place, monkeypatch):
    whole = made_at_once(request())
    part(1, 2)

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(soupctl.merge.parts.make, "write_at", failing)
        with pytest.raises(OutputError, match="No space left"):
            part(2, 2)
    assert ["1-of-2.safetensors"] == os.listdir("soup.st.parts")
    with pytest.raises(InputError, match=r"lacks part 2 of 2 \(.*part=2/2\)"):
        join()
    part(2, 2)
    part(1, 2)
    join()

    assert whole == contents_of(Path("soup.st"))


def test_a_hidden_file_of_a_killed_part_is_no_part_and_is_removed(place):
    part(1, 1)
    Path("soup.st.parts/.0123456789abcdef.partial").write_bytes(b"half")
    join()

    assert not Path("soup.st.parts").exists()


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
    for name in ("x.st", "y.st"):
        codes = ("F8_E4M3", (2, 4), bytes(8))
        scale = ("F32", (), np.float32([2]).tobytes())
        save_raw(Path(name), {"layer.weight": codes, "layer.scale_weight": scale})
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


def test_a_killed_part_leaves_nothing_to_join(place):
    """A process that is killed between its first tensor and its record."""
    script = (
        "import os, sys\n"
        "from soupctl import choices, verbs\n"
        "import soupctl.merge.parts.make as make\n"
        "make.execute_part = lambda *_: os.kill(os.getpid(), 9)\n"
        "request = verbs.Request(sys.argv[1:], 'soup.st', on_int=choices.OnInt.FIRST)\n"
        "with verbs.open_part(request, verbs.PartOfPlan(2, 2)) as planned:\n"
        "    verbs.make_part(planned)\n"
    )
    whole = made_at_once(request())
    part(1, 2)
    done = subprocess.run([sys.executable, "-c", script, *NAMES], check=False)
    assert -9 == done.returncode
    with pytest.raises(InputError, match="lacks part 2 of 2"):
        join()
    part(2, 2)
    join()

    assert whole == contents_of(Path("soup.st"))


def test_processes_at_the_same_time_make_the_same_bytes(place):
    """Four processes, two of which make the same part."""
    whole = made_at_once(request())
    command = [sys.executable, "-m", "soupctl", "avg", *NAMES, "-o", "soup.st"]
    with ExitStack() as stack:
        running = [
            stack.enter_context(started(*command, "--on-int", "first", "--part", f"{number}/3"))
            for number in (3, 1, 2, 1)
        ]
        assert [0, 0, 0, 0] == [each.wait() for each in running]
    join()

    assert whole == contents_of(Path("soup.st"))
