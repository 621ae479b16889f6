"""A sum lies beside its soup, comes and goes with it, and takes nothing else's place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keeping import arrays_of, hide, save_pots, sum_of, sums_of
from making import contents, files, save
from revising import assert_proven, average, revise, root

from soupctl import verbs
from soupctl.choices import Method
from soupctl.errors import InputError, LedgerError, OutputError, UsageError
from soupctl.verbs import ExecutionOptions, Ingredient, Request

F16 = np.float16
SOUP, OUT, EXPECTED = Path("soup.st"), Path("out.st"), Path("expected.st")


@pytest.fixture
def pots(tmp_path, monkeypatch):
    """Checkpoints a to e of mixed dtypes and far exponents, in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_pots()


def test_in_place_the_old_sum_gives_way_to_the_new_one(pots):
    average(SOUP, "a.st", "b.st", "c.st", keep_sum=True)
    old = sum_of(SOUP)
    made = revise("subtract", SOUP, SOUP, (), ["a.st"], force=True)

    assert made.sum == sum_of(SOUP) != old
    assert_proven(SOUP)
    revise("add", SOUP, SOUP, ["a.st"], force=True)
    assert old == sum_of(SOUP)
    revise("swap", SOUP, SOUP, ["a.st"], ["a.st"], force=True)
    assert old == sum_of(SOUP)
    assert_proven(SOUP)
    revise("swap", SOUP, SOUP, ["d.st"], ["a.st"], force=True, keep_sum=False)
    assert [] == sums_of(SOUP)


@pytest.mark.parametrize("keep", [False, True])
def test_a_soup_that_is_replaced_takes_its_sum_with_it(pots, keep):
    average(SOUP, "a.st", "b.st", keep_sum=True)
    old = sum_of(SOUP)
    average(SOUP, "c.st", "d.st", keep_sum=keep, force=True)

    assert not old.exists()
    assert keep == len(sums_of(SOUP))
    assert_proven(SOUP)


def test_the_same_soup_again_keeps_its_sum_or_loses_it_as_asked(pots):
    for path in (SOUP, Path("soup")):
        options: dict[str, Any] = {} if path is SOUP else {"shard_size": 500}
        average(path, "a.st", "b.st", keep_sum=True, **options)
        old = sum_of(path)
        average(path, "a.st", "b.st", keep_sum=True, **options, force=True)
        assert old == sum_of(path)
        assert_proven(path)
        average(path, "a.st", "b.st", **options, force=True)
        assert [] == sums_of(path)


def test_equal_roots_of_other_ingredients_have_sums_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(Path(f"{name}.st"), w=F16([number]))
    average(SOUP, "b.st", keep_sum=True)
    average(SOUP, "a.st", "c.st", keep_sum=True, force=True)
    assert_proven(SOUP)
    average(SOUP, "b.st", force=True)

    assert [] == sums_of(SOUP)
    assert_proven(SOUP)


@pytest.mark.parametrize("kind", ["file", "soup", "folder", "link", "nowhere", "fifo"])
def test_an_unrelated_file_named_like_the_sum_is_refused_and_survives(pots, kind):
    average(SOUP, "a.st", "b.st", keep_sum=True)
    place = sum_of(SOUP)
    place.unlink()
    SOUP.unlink()
    if kind == "file":
        place.write_text("a user's own")
    elif kind == "soup":
        average(Path("other.st"), "a.st")
        Path("other.st").rename(place)
    elif kind == "folder":
        place.mkdir()
        (place / "notes").write_text("a user's own")
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        average(EXPECTED, "a.st", keep_sum=True)
        place.symlink_to(sum_of(EXPECTED) if kind == "link" else "nowhere")
    before = files(Path()), sorted(os.listdir()), place.lstat().st_ino
    with pytest.raises(OutputError) as caught:
        average(SOUP, "a.st", "b.st", keep_sum=True)

    assert place.name in caught.value.message()
    assert before == (files(Path()), sorted(os.listdir()), place.lstat().st_ino)


def test_an_existing_sum_is_replaced_whatever_it_held(pots):
    average(SOUP, "a.st", "b.st", keep_sum=True)
    raw = sum_of(SOUP).read_bytes()
    SOUP.unlink()
    average(EXPECTED, "c.st", keep_sum=True)
    shutil.copy(sum_of(EXPECTED), sum_of(SOUP))
    average(SOUP, "a.st", "b.st", keep_sum=True)

    assert raw == sum_of(SOUP).read_bytes()


def test_a_sum_is_neither_an_ingredient_nor_computed_with_as_rounded(pots):
    average(SOUP, "a.st", "b.st", keep_sum=True)
    kept = sum_of(SOUP)
    before = files(Path())
    for operation, added, removed in (
        ("add", [kept], []),
        ("swap", [kept], ["a.st"]),
        ("subtract", [], [kept]),
    ):
        with pytest.raises(InputError, match="is a kept sum, not a model"):
            revise(operation, SOUP, OUT, added, removed)
    with pytest.raises(InputError, match="is a kept sum, not a model"):
        average(OUT, "a.st", kept)
    with pytest.raises(LedgerError, match="is a kept sum, which is exact"):
        revise("subtract", kept, OUT, (), ["a.st"], approximate=True)
    with pytest.raises(OutputError, match="is also an input"):
        revise("subtract", kept, kept, (), ["a.st"], force=True)
    with pytest.raises(OutputError, match="is also an input"):
        revise("subtract", SOUP, kept, (), ["a.st"], force=True)
    assert before == files(Path())


def test_no_sum_is_kept_for_a_stream_or_of_nonfinite_values(pots):
    save(Path("n.st"), **{**arrays_of("a.st"), "half": np.full((7, 5), np.nan, F16)})
    with pytest.raises(UsageError, match="a kept sum needs a file as output"):
        average("-", "a.st", "b.st", keep_sum=True)
    with pytest.raises(UsageError, match="no sum can be kept of NaN or infinity"):
        average(SOUP, "a.st", "n.st", keep_sum=True, allow_nonfinite=True)
    with pytest.raises(InputError, match=r"n\.st: half: holds NaN or infinity"):
        average(SOUP, "a.st", "n.st", keep_sum=True)
    average(SOUP, "a.st", "n.st", "b.st", allow_nonfinite=True)
    with pytest.raises(UsageError, match="no sum can be kept of NaN or infinity"):
        revise("subtract", SOUP, OUT, (), ["n.st"], keep_sum=True)
    average(SOUP, "a.st", "b.st", keep_sum=True, force=True)
    with pytest.raises(InputError, match=r"n\.st: half: holds NaN or infinity"):
        revise("add", SOUP, OUT, ["n.st"])
    with pytest.raises(UsageError, match="no sum can be kept of a rounded soup"):
        revise("subtract", SOUP, OUT, (), ["a.st"], approximate=True, keep_sum=True)
    assert not OUT.exists()
    made = revise("subtract", SOUP, OUT, (), ["a.st"], approximate=True)
    assert (Method.ROUNDED, None) == (made.method, made.sum)


def test_an_input_that_changes_between_the_passes_is_refused(pots):
    """The form of the sum is found first: the second time, other values would not fit it."""
    raw = Path("a.st").read_bytes()
    told = []

    def disturb(size: int) -> None:
        told.append(size)
        if len(told) == 4:
            data = contents(Path("e.st"))
            start = len(raw) - sum(len(each) for _, _, each in data.values())
            with Path("a.st").open("r+b") as file:
                file.seek(start)
                file.write(b"".join(each for _, _, each in data.values()))

    request = Request([Ingredient("a.st"), Ingredient("b.st")], SOUP, keep_sum=True)
    before = sorted(os.listdir())
    with pytest.raises(OutputError, match="changed"):
        verbs.average(request, execution=execution(disturb))

    assert len(told) > 4
    assert before == sorted(os.listdir())


@pytest.mark.parametrize("keep", [False, True])
def test_a_sum_that_changes_while_it_is_read_is_refused(pots, keep):
    average(SOUP, "a.st", "b.st", "c.st", keep_sum=True)
    raw = sum_of(SOUP).read_bytes()
    before = files(Path())
    told = []

    def disturb(size: int) -> None:
        told.append(size)
        if len(told) == 2:
            sum_of(SOUP).write_bytes(raw)
            os.utime(sum_of(SOUP), (1, 1))

    with pytest.raises(OutputError, match=r"\.sum: changed"):
        revise(
            "subtract",
            SOUP,
            SOUP,
            (),
            ["a.st"],
            keep_sum=keep,
            force=True,
            execution=execution(disturb),
        )

    assert before == files(Path())


def execution(progress: Any) -> ExecutionOptions:
    return ExecutionOptions(1, None, progress)


def test_an_ingredient_that_is_not_the_one_is_refused_before_anything_else(pots):
    average(SOUP, "a.st", "b.st", "c.st", keep_sum=True)
    before, digest = files(Path()), root("a.st")
    arrays = arrays_of("a.st")
    save(Path("a.st"), **{**arrays, "half": arrays["half"] * F16(np.nan)})
    with pytest.raises(LedgerError, match=r"a\.st"):
        revise("subtract", SOUP, SOUP, (), [digest], force=True)

    assert {name: raw for name, raw in before.items() if name != "a.st"} == {
        name: raw for name, raw in files(Path()).items() if name != "a.st"
    }


def test_a_sum_with_too_long_a_name_is_refused_and_the_old_soup_stays(pots):
    soup = Path(f"{'n' * 240}.st")
    average(soup, "a.st")
    before = files(Path())
    with pytest.raises(OutputError, match="File name too long"):
        average(soup, "a.st", "b.st", keep_sum=True, force=True)

    assert before == files(Path())
    average(soup, "a.st", "b.st", force=True)


def test_a_soup_that_is_changed_through_a_link_keeps_its_sum_beside_itself(pots):
    Path("real").mkdir()
    average(Path("real/s.st"), "a.st", "b.st", "c.st", keep_sum=True)
    Path("link.st").symlink_to("real/s.st")
    made = revise("subtract", "link.st", Path("link.st"), (), ["a.st"], force=True)

    assert Method.SUM is made.method
    assert [sum_of(Path("real/s.st"))] == sums_of(Path("real/s.st"))
    assert [] == sums_of(Path("link.st"))
    average(EXPECTED, "b.st", "c.st", keep_sum=True)
    assert sum_of(EXPECTED).name.split(".")[2] == sum_of(Path("real/s.st")).name.split(".")[2]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_soup_that_was_renamed_has_its_sum_still_and_leaves_none_behind(pots, is_folder):
    names = [f"{name}.st" for name in "abc"]
    shape = {"shard_size": 100} if is_folder else {}
    soup, renamed = (Path("s"), Path("t")) if is_folder else (Path("s.st"), Path("t.st"))
    average(soup, *names, keep_sum=True, **shape)
    soup.rename(renamed)
    hide("b.st", "c.st")
    made = revise("subtract", renamed, renamed, (), ["a.st"], force=True)

    assert Method.SUM is made.method
    assert [] == sums_of(soup)
    assert [sum_of(renamed)] == sums_of(renamed)


def test_the_sum_of_a_soup_that_was_copied_stays_with_the_soup_of_its_name(pots):
    average(SOUP, "a.st", "b.st", "c.st", keep_sum=True)
    shutil.copy(SOUP, "t.st")
    made = revise("subtract", "t.st", Path("t.st"), (), ["a.st"], force=True)

    assert Method.INGREDIENTS is made.method
    assert [sum_of(SOUP)] == sums_of(SOUP)
