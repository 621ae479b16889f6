"""A sum is written as its sources are read the first time, and again if its form is unexpected."""

from __future__ import annotations

import numpy as np
import pytest
from keeping import form_of, sum_of
from making import contents, save, save_raw
from revising import assert_proven, average, revise

from soupctl.errors import InputError
from soupctl.merge.kept_sum.forms import SAMPLE
from soupctl.storage import regular
from soupctl.verbs import ExecutionOptions

COUNT = 3 * SAMPLE
LATE = COUNT - 5
"""An element that no sample holds."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(seed: int) -> np.ndarray:
    """Values as those of a model, in multiples of a small power of two."""
    return np.random.default_rng(seed).normal(0, 0.02, COUNT).astype(np.float16)


def bf16(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    words = np.float32(values).view(np.uint32) >> 16
    return "BF16", values.shape, words.astype(np.uint16).tobytes()


def changed(values: np.ndarray, value: float, place: int = LATE) -> np.ndarray:
    values = values.copy()
    values[place] = value
    return values


FINE = np.full(COUNT, 1 + 2.0**-10)
"""Values of which sums take more bits than a sample makes likely, and which fit all the same."""
CASES = {
    "expected F32": (drawn(1), drawn(2), "F32"),
    "expected F64": (changed(drawn(1), 8.0, 0), changed(drawn(2), 2.0**-24, 0), "F64"),
    "F64 for one element": (changed(drawn(1), 8.0), changed(drawn(2), 2.0**-24), "F64"),
    "F32 after all": (changed(FINE, 0.5), np.full(COUNT, 2.0**-12), "F32"),
}


@pytest.mark.parametrize("execution", [ExecutionOptions(1), ExecutionOptions(3, 1000)])
@pytest.mark.parametrize(("one", "other", "form"), CASES.values(), ids=CASES)
def test_a_sum_has_the_narrowest_form_whatever_was_expected(place, one, other, form, execution):
    for name, values in (("a.st", one), ("b.st", other)):
        save(place / name, w=values.astype(np.float16), v=drawn(3), n=np.int64([1]))
    average(place / "soup.st", "a.st", ("b.st", 3), keep_sum=True, execution=execution)
    average(place / "plain.st", "a.st", ("b.st", 3))

    kept = sum_of(place / "soup.st")
    exact = np.float64(one.astype(np.float16)) + 3 * np.float64(other.astype(np.float16))
    assert form_of(kept, "w") == f"0:{form}"
    assert contents(kept)["0:w"][2] == exact.astype(f"f{int(form[1:]) // 8}").tobytes()
    assert contents(place / "plain.st") == contents(place / "soup.st")
    # a rebuild surveys all elements before it makes the sum again
    assert_proven(place / "soup.st")


def test_sums_that_take_further_planes_are_written_again(place):
    ones = np.ones(COUNT, np.float32)
    save_raw(place / "a.st", {"v": bf16(ones), "w": bf16(changed(ones, 2.0**60))})
    save_raw(place / "b.st", {"v": bf16(ones), "w": bf16(changed(ones, 2.0**-60))})
    average(place / "soup.st", "a.st", "b.st", keep_sum=True)

    kept = sum_of(place / "soup.st")
    assert form_of(kept, "v") == "0:F32"
    assert form_of(kept, "w") == "0:F64 1i:U32 1v:F64"
    assert_proven(place / "soup.st")
    revise("subtract", "soup.st", place / "out.st", (), ["b.st"], keep_sum=False)
    assert contents(place / "a.st") == contents(place / "out.st")


def test_what_is_expected_is_read_once(place, monkeypatch):
    for seed in range(2):
        save(place / f"{seed}.st", w=np.tile(drawn(seed), 20))
    read = []
    preadv = regular.os.preadv

    def counted(fd, buffers, offset):
        read.append(sum(map(len, buffers)))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(regular.os, "preadv", counted)
    made = average(place / "soup.st", "0.st", "1.st", keep_sum=True)
    assert made.read == 2 * 2 * (20 * COUNT + SAMPLE)
    assert sum(read) < made.read + 2000


def test_nan_beyond_the_sample_leaves_nothing(place):
    save(place / "a.st", w=drawn(1))
    save(place / "b.st", w=changed(drawn(2), np.nan))
    with pytest.raises(InputError, match=rf"b\.st: w: holds NaN or infinity \(element {LATE}\)"):
        average(place / "soup.st", "a.st", "b.st", keep_sum=True)
    assert {each.name for each in place.iterdir()} == {"a.st", "b.st"}
