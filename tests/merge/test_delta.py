"""A delta gives its fine-tuned checkpoint back, whatever the dtypes and values of the two are."""

from __future__ import annotations

import shutil
from itertools import product
from math import inf
from pathlib import Path

import numpy as np
import pytest
from deltas import apply, delta, floats, save_one
from making import contents, save
from revising import average, root

from soupctl import verbs
from soupctl.errors import InputError, MismatchError, OutputError, UsageError
from soupctl.format.dtypes import FLOATS, DType
from soupctl.verbs import Level, Revision

SIZE = 120
MIXES = list(product(FLOATS, FLOATS))
INTEGERS = ("I64", (2,), bytes(16))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("fine", "base"), MIXES, ids=lambda dtype: dtype.value)
def test_a_delta_applied_to_its_base_gives_the_bytes_of_the_fine_tuned_checkpoint(fine, base):
    same = ("F16", (3,), bytes.fromhex("008000000180"))
    save_one("base.st", base, floats(base, SIZE, "base"), ids=INTEGERS, same=same)
    changed = ("I64", (2,), bytes(range(16)))
    save_one("fine.st", fine, floats(fine, SIZE, "fine"), ids=changed, same=same)

    made = delta("fine.st", "base.st", "d.st")
    apply("base.st", "d.st")

    assert (1, 1, 1) == (made.changed, made.whole, made.equal)
    assert contents(Path("fine.st")) == contents(Path("out.st"))
    assert root("fine.st") == root("out.st")


@pytest.mark.parametrize("chunk", [1, 7, None])
def test_the_bytes_of_a_delta_depend_on_its_request_alone(chunk):
    save_one("base.st", DType.F32, floats(DType.F32, SIZE, 1))
    save_one("fine.st", DType.F32, floats(DType.F32, SIZE, 2))
    delta("fine.st", "base.st", "one.st")

    execution = verbs.ExecutionOptions(2, chunk)
    verbs.make_delta(verbs.DeltaRequest("fine.st", "base.st", "two.st"), execution=execution)

    assert Path("one.st").read_bytes() == Path("two.st").read_bytes()


def forms(fine: object, base: object) -> dict[str, str]:
    """The dtypes of the tensors of the delta of two arrays."""
    save(Path("fine.st"), w=fine)
    save(Path("base.st"), w=base)
    delta("fine.st", "base.st", "d.st")
    return {name: dtype for name, (dtype, *_) in contents(Path("d.st")).items()}


def test_a_difference_takes_the_narrowest_dtype_that_holds_it():
    base = np.linspace(1, 2, 200, dtype=np.float32)

    assert {"0:w": "F8_E4M3"} == forms(base * 0, base * 0 + np.float32(0.5))
    assert {"0:w": "F32"} == forms(base * np.float32(1.01), base)
    assert {"0:w": "F16"} == forms((base * 1.01).astype(np.float16), base.astype(np.float16))


def test_a_difference_that_no_float_of_the_dtype_is_takes_a_sparse_second_plane():
    base = np.linspace(1, 2, 200, dtype=np.float32)
    fine = base * np.float32(1.01)
    fine[7] = np.float32(1e-9)

    assert {"0:w": "F32", "1i:w": "U32", "1v:w": "F32"} == forms(fine, base)


def test_a_difference_of_few_elements_is_stored_as_places_and_values():
    base = np.linspace(1, 2, 200, dtype=np.float32)
    fine = base.copy()
    fine[7] = 3

    assert {"0i", "0v"} == {name.partition(":")[0] for name in forms(fine, base)}


def test_a_difference_beyond_the_range_of_f64_is_kept_in_two_planes():
    largest = np.finfo(np.float64).max

    assert {"0:w": "F64", "1:w": "F64"} == forms(np.full(2, largest), np.full(2, -largest))
    apply("base.st", "d.st")
    assert contents(Path("fine.st")) == contents(Path("out.st"))


@pytest.mark.parametrize("odd", [np.nan, inf, -inf])
def test_nan_and_infinity_are_refused_or_kept_whole_on_request(odd):
    save(Path("base.st"), w=np.ones(3, np.float16))
    save(Path("fine.st"), w=np.array([1, odd, 2], np.float16))

    with pytest.raises(InputError, match=r"fine.st: w: holds NaN or infinity \(element 1\)"):
        delta("fine.st", "base.st", "d.st")
    assert not Path("d.st").exists()
    delta("fine.st", "base.st", "d.st", allow_nonfinite=True)
    apply("base.st", "d.st")

    assert contents(Path("fine.st")) == contents(Path("out.st"))


def test_checkpoints_that_do_not_fit_each_other_have_no_delta():
    save(Path("base.st"), w=np.ones(3, np.float16))
    save(Path("other.st"), v=np.ones(3, np.float16))
    save(Path("wide.st"), w=np.ones((3, 1), np.float16))

    with pytest.raises(MismatchError, match=r"lacks .*, which base\.st has"):
        delta("other.st", "base.st", "d.st")
    with pytest.raises(MismatchError, match="has shape"):
        delta("wide.st", "base.st", "d.st")
    with pytest.raises(UsageError, match="excludes 'v' matches no tensor"):
        delta("wide.st", "base.st", "d.st", excludes=("v",))


def test_the_delta_of_equal_checkpoints_holds_nothing_and_gives_their_bytes():
    zeros = bytes.fromhex("008000000180")
    save_one("base.st", DType.F16, zeros + floats(DType.F16, SIZE - 3, 1), ids=INTEGERS)
    shutil.copy("base.st", "fine.st")

    made = delta("fine.st", "base.st", "d.st")
    apply("base.st", "d.st")
    apply("base.st", ("d.st", -3), output="negated.st")

    assert (0, 0, 2) == (made.changed, made.whole, made.equal)
    assert {} == contents(Path("d.st"))
    assert contents(Path("base.st")) == contents(Path("out.st"))
    assert {root("base.st"): -1} == {x.digest: x.weight for x in made.ledger.ingredients}
    for name in ("d.st", "out.st", "negated.st"):
        assert [Level.REBUILD] == [each.level for each in verbs.verify(name)]
    assert verbs.holds("out.st", "d.st")
    verbs.revise(Revision("subtract", "negated.st", "left.st", removed=["d.st"]))
    assert contents(Path("left.st")) == contents(Path("negated.st"))


def test_a_selection_without_differences_has_an_empty_delta():
    save(Path("base.st"), v=np.ones(3, np.float16), w=np.ones(3, np.float16))
    save(Path("fine.st"), v=np.ones(3, np.float16), w=np.zeros(3, np.float16))

    delta("fine.st", "base.st", "d.st", keys=("v",))
    apply("base.st", "d.st")

    assert contents(Path("base.st")) == contents(Path("out.st"))
    assert [Level.REBUILD] == [each.level for each in verbs.verify("d.st")]


def test_tensors_that_are_left_out_are_not_changed():
    save(Path("base.st"), v=np.ones(3, np.float16), w=np.ones(3, np.float16))
    save(Path("fine.st"), v=np.zeros(3, np.float16), w=np.zeros(3, np.float16))

    delta("fine.st", "base.st", "d.st", excludes=("v",))
    apply("base.st", "d.st")

    assert contents(Path("base.st"))["v"] == contents(Path("out.st"))["v"]
    assert contents(Path("fine.st"))["w"] == contents(Path("out.st"))["w"]


def test_a_place_that_is_taken_is_refused_before_anything_is_read(monkeypatch):
    save_one("base.st", DType.F32, floats(DType.F32, SIZE, 1))
    save_one("fine.st", DType.F32, floats(DType.F32, SIZE, 2))
    Path("d.st").write_bytes(b"old")
    monkeypatch.setattr("soupctl.merge.delta.make.survey_delta", None)

    for output in ("d.st", "base.st", "nowhere/d.st", "."):
        with pytest.raises(OutputError):
            verbs.make_delta(verbs.DeltaRequest("fine.st", "base.st", output))

    assert b"old" == Path("d.st").read_bytes()


def test_a_delta_is_no_ingredient_of_a_mean():
    save(Path("base.st"), w=np.ones(3, np.float16))
    save(Path("fine.st"), w=np.zeros(3, np.float16))
    delta("fine.st", "base.st", "d.st")

    with pytest.raises(InputError, match=r"is a delta, not a model \(soupctl apply BASE DELTA"):
        average("soup.st", "base.st", "d.st")
    with pytest.raises(InputError, match="is a delta, not a model"):
        delta("d.st", "base.st", "e.st")
    not_applied = r"is a model, not a delta or an adapter \(make a delta of it with soupctl"
    with pytest.raises(MismatchError, match=not_applied):
        apply("base.st", "fine.st")


def test_in_little_memory_the_chunks_of_a_delta_are_smaller_and_its_bytes_the_same():
    values = np.arange(50_000, dtype=np.float32)
    save(Path("base.st"), w=values)
    save(Path("fine.st"), w=values + 1)
    delta("fine.st", "base.st", "d.st")

    with verbs.open_delta_job(verbs.DeltaRequest("fine.st", "base.st", "small.st")) as job:
        usual = verbs.preview_delta(job, 1)
        less = verbs.preview_delta(job, 2, usual.memory - (2 << 20))
        execution = verbs.ExecutionOptions(less.threads, less.chunk)
        verbs.subtract_base(job, execution=execution)

    assert usual.chunk is None
    assert (1, True) == (less.threads, less.chunk is not None)
    assert Path("d.st").read_bytes() == Path("small.st").read_bytes()
