"""A sum is kept in the narrowest form that holds it, and in none that does not."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from keeping import form_of, hide, sum_of, values_of
from making import contents, files, save, save_raw
from revising import average, revise

from soupctl.choices import Method
from soupctl.errors import LimitError, MismatchError
from soupctl.verbs import ExecutionOptions

F16 = np.float16
SOUP, OUT, EXPECTED = Path("soup.st"), Path("out.st"), Path("expected.st")


def doubles(name: str, *values: float) -> Path:
    return save(Path(f"{name}.st"), w=np.float64(values))


FORMS = {
    "0:F32": ([1.0, 0.0, -0.0], [0.5, 2.0**-149, 0.0]),
    "0:F64": ([1.0] * 3, [2.0**-40] * 3),
    "0:F64 1i:U32 1v:F64": ([1.0] * 3, [2.0**-80, 0.5, 0.5]),
    "0:F64 1:F64": ([1.0] * 3, [2.0**-80] * 3),
    # places and values together would be no shorter
    "0:F64 1:F64 2:F64": ([1.0] * 3, [2.0**-80 + 2.0**-30] * 3, [2.0**-140] * 3),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_the_narrowest_that_holds_the_sum(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    paths = [doubles(name, *values) for name, values in zip("abc", FORMS[form], strict=False)]
    average(SOUP, *paths, keep_sum=True)

    assert form == form_of(sum_of(SOUP), "w")
    expected = [sum(map(Fraction, column)) for column in zip(*FORMS[form], strict=True)]
    assert expected == values_of(sum_of(SOUP), "w")
    made = revise("subtract", SOUP, OUT, (), ["b.st"])
    average(EXPECTED, *(path for path in paths if path.name != "b.st"))
    assert (Method.SUM, contents(EXPECTED)) == (made.method, contents(OUT))


def test_a_sum_of_nine_planes_is_refused_and_one_of_eight_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(9):
        doubles(f"{number}", 1.0, 2.0 ** (900 - 200 * number))
    average(SOUP, *(f"{number}.st" for number in range(8)), keep_sum=True)

    assert form_of(sum_of(SOUP), "w").endswith("7i:U32 7v:F64")
    before = files(Path())
    with pytest.raises(LimitError, match=r"w: its sum takes more than 8 planes of F64"):
        average(OUT, *(f"{number}.st" for number in range(9)), keep_sum=True)
    with pytest.raises(LimitError, match="w: its sum takes more"):
        revise("add", SOUP, OUT, ["8.st"])
    assert before == files(Path())
    made = revise("add", SOUP, OUT, ["8.st"], keep_sum=False)
    average(EXPECTED, *(f"{number}.st" for number in range(9)))
    assert (None, contents(EXPECTED)) == (made.sum, contents(OUT))


def test_a_sum_beyond_all_floats_is_refused_and_the_soup_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [doubles("a", 1.7e308), doubles("b", 1.6e308)]
    with pytest.raises(LimitError, match="w: its sum is beyond the range of F64"):
        average(SOUP, *paths, keep_sum=True)
    assert {"a.st", "b.st"} == set(os.listdir())
    average(SOUP, *paths)


def test_tensors_of_no_elements_and_of_one_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("ab"):
        save(Path(f"{name}.st"), none=np.zeros((0, 3), F16), one=np.float32(number + 0.5))
    average(SOUP, "a.st", "b.st", keep_sum=True)
    revise("subtract", SOUP, OUT, (), ["b.st"])

    assert contents(Path("a.st")) == contents(OUT)


@pytest.mark.parametrize("weight", [1, 3, Fraction(1, 3)])
def test_every_narrow_float_is_summed_and_comes_back(tmp_path, monkeypatch, weight):
    monkeypatch.chdir(tmp_path)
    save_raw(Path("a.st"), {"w": ("F8_E4M3", (4,), b"\x01\x7e\xfe\x38")})
    save_raw(Path("b.st"), {"w": ("F8_E5M2", (4,), b"\x01\x7b\xfb\x3c")})
    save_raw(Path("c.st"), {"w": ("BF16", (4,), b"\x01\x00\x7f\x7f\x7f\xff\x80\x3f")})
    average(SOUP, "a.st", ("b.st", weight), ("c.st", 2), keep_sum=True)
    for gone, left in (("c.st", ["a.st", ("b.st", weight)]), ("b.st", ["a.st", ("c.st", 2)])):
        average(EXPECTED, *left, force=True)
        hide(*{"a.st", "b.st", "c.st"} - {gone})
        revise("subtract", SOUP, OUT, (), [gone], force=True)
        shutil.copytree("hidden", ".", dirs_exist_ok=True)

        assert contents(EXPECTED) == contents(OUT)


def test_copied_tensors_pass_through_the_sum_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copied = {
        "scales": ("F8_E8M0", (3,), b"\x01\x7f\xff"),
        "packed": ("F4", (2, 2), b"\x1f\xf0"),
        "flags": ("BOOL", (2,), b"\x00\x01"),
        "waves": ("C64", (1,), bytes(range(8))),
        "nothing": ("I8", (0,), b""),
    }
    for name in "abc":
        save_raw(Path(f"{name}.st"), {**copied, "w": ("F16", (1,), b"\x01" + name.encode())})
    average(SOUP, "a.st", "b.st", keep_sum=True)
    average(EXPECTED, "a.st", "c.st")
    Path("a.st").unlink()
    made = revise("swap", SOUP, OUT, ["c.st"], ["b.st"])

    assert (Method.SUM, contents(EXPECTED)) == (made.method, contents(OUT))
    assert copied == {name: contents(OUT)[name] for name in copied}


def test_a_soup_beyond_its_dtype_takes_its_sum_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 60000), ("b", 1)):
        save(Path(f"{name}.st"), w=F16([value]))
    with pytest.raises(MismatchError, match="beyond the range"):
        average(SOUP, ("a.st", 3), ("b.st", -1), keep_sum=True)

    assert {"a.st", "b.st"} == set(os.listdir())


def test_memory_does_not_grow_with_tensors_or_their_sparse_planes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    peaks = []
    for count in (1 << 20, 1 << 22):
        for name in "ab":
            values = np.ones(count, np.float32)
            values[:: 2 if name == "b" else count] = 2.0**-80
            save(Path(f"{name}.st"), w=values)
        average(SOUP, "a.st", "b.st", keep_sum=True, force=True, execution=ExecutionOptions(1))
        tracemalloc.start()
        revise(
            "swap",
            SOUP,
            OUT,
            ["a.st"],
            ["b.st"],
            again=True,
            force=True,
            execution=ExecutionOptions(1),
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert "0:F64 1i:U32 1v:F64" == form_of(sum_of(SOUP), "w")
    # of the larger, the dense plane alone has 32 MiB and the sparse one 24
    assert peaks[1] - peaks[0] < 1 << 20
