"""A change that cannot be exact, or is of a soup that is none, is refused and leaves no trace."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, metadata, save, save_shards
from revising import average, revise, root
from safetensors import numpy as safetensors_numpy

from soupctl import verbs
from soupctl.choices import OnInt
from soupctl.errors import InputError, LedgerError, MismatchError, OutputError

F16 = np.float16
OUT = "out.st"


@pytest.fixture
def four(tmp_path, monkeypatch):
    """Checkpoints a to d and `soup.st` of the first three, in the working folder."""
    generator = np.random.default_rng(5)
    for name in "abcd":
        save(tmp_path / f"{name}.st", w=generator.normal(0, 1, 50).astype(F16))
    monkeypatch.chdir(tmp_path)
    average(Path("soup.st"), Path("a.st"), Path("b.st"), (Path("c.st"), 2))
    return tmp_path


def refused(pattern: str, *arguments, kind=LedgerError, **options) -> None:
    """Assert that the change is refused in one line and that no file came, went or changed."""
    before = files(Path())
    with pytest.raises(kind, match=pattern) as caught:
        revise(*arguments, **options)

    assert "\n" not in caught.value.message()
    assert before == files(Path())


@pytest.mark.parametrize("approximate", [False, True])
def test_a_refused_removal_names_both_files(four, approximate):
    Path("copy.st").write_bytes(Path("b.st").read_bytes())
    for removed, pattern in {
        ("d.st",): r"^d\.st: is not in soup\.st \(it holds",
        ("b.st", "copy.st"): r"^copy\.st: would be removed from soup\.st twice$",
        ("nothing",): r"^nothing: is neither a file nor an ingredient of the soup \(it holds",
        ("blake3:" + "0" * 64,): r"is neither a file nor an ingredient of the soup",
        (("c.st", 3),): r"^c\.st: has weight 2 in soup\.st, so 3 cannot be removed",
        (("c.st", -1),): r"^c\.st: has weight 2 in soup\.st, so -1 cannot be removed",
        (
            "a.st",
            "b.st",
            "c.st",
        ): r"^a\.st: cannot be removed: nothing would .*; c\.st: cannot be removed",
    }.items():
        refused(pattern, "subtract", "soup.st", OUT, (), removed, approximate=approximate)
    refused(r"no ledger \(give its weight with total=N", "subtract", "a.st", OUT, (), ["a.st"])


def test_removing_an_ingredient_of_an_inner_soup_is_refused_naming_that_soup(four):
    average(Path("nested.st"), "soup.st", "d.st")
    pattern = r"^b\.st: is not in nested\.st \(it is part of soup\.st, which swap"

    refused(pattern, "subtract", "nested.st", OUT, (), ["b.st"])
    revise("subtract", "soup.st", "without.st", (), ["b.st"])
    revise("swap", "nested.st", OUT, ["without.st"], ["soup.st"])
    assert verbs.holds(OUT, "b.st") is None


def test_only_the_soup_itself_may_be_replaced_among_the_inputs(four):
    average(Path("other.st"), Path("d.st"))
    for output in ("a.st", "b.st", "d.st", "other.st"):
        arguments = ("swap", "soup.st", output, ["other.st"], ["b.st"])
        refused("is also an input", *arguments, kind=OutputError, force=True)
        if output != "a.st":
            options = {"force": True, "approximate": True}
            refused("is also an input", *arguments, kind=OutputError, **options)
    refused("exists", "subtract", "soup.st", "soup.st", (), ["b.st"], kind=OutputError)


def test_the_soup_itself_is_replaced_with_force(four):
    revise("subtract", "soup.st", OUT, (), ["b.st"])
    revise("subtract", "soup.st", "soup.st", (), ["b.st"], force=True)
    assert Path(OUT).read_bytes() == Path("soup.st").read_bytes()


def test_a_replaced_soup_of_one_ingredient_keeps_the_hint_to_it(four):
    average(Path("one.st"), Path("a.st"))
    revise("add", "one.st", "one.st", ["b.st"], force=True)
    made = revise("subtract", "one.st", "one.st", (), ["b.st"], force=True)

    assert ["a.st"] == [entry.hint for entry in made.ledger.ingredients]
    assert contents(Path("a.st")) == contents(Path("one.st"))


def test_missing_ingredients_are_named_with_the_options_that_help(four):
    Path("a.st").unlink()
    Path("c.st").unlink()
    found = "is not found, and an exact soup needs it"
    pattern = rf"^[ac]\.st: {found} \(search=DIR .*approximate=True .*\); [ac]\.st: {found}$"

    refused(pattern, "subtract", "soup.st", OUT, (), ["b.st"])
    refused(pattern, "add", "soup.st", OUT, ["d.st"])
    refused(pattern, "add", "soup.st", OUT, ["d.st"], search=(Path(),))


def test_a_renamed_or_moved_ingredient_is_found_by_content(four):
    revise("subtract", "soup.st", "expected.st", (), ["b.st"])
    loaded = safetensors_numpy.load_file("c.st")["w"]
    save_shards(Path("else/sharded"), "model", {"u": loaded}, {"v": loaded})
    Path("a.st").rename("else/c.st")
    Path("c.st").rename("else/sharded/renamed.safetensors")
    revise("subtract", "soup.st", OUT, (), [root("b.st")], search=(Path("else"),))

    assert contents(Path("expected.st")) == contents(Path(OUT))
    hints = {entry.hint for entry in verbs.history(OUT)[0][1].ingredients}
    assert {"else/c.st", "else/sharded/renamed.safetensors"} == hints


def test_a_sharded_checkpoint_is_found_by_content(four):
    save(Path("whole.st"), u=F16([1]), v=F16([2]))
    save(Path("b2.st"), u=F16([3]), v=F16([5]))
    average(Path("two.st"), Path("whole.st"), Path("b2.st"))
    save_shards(Path("else/m"), "model", {"u": F16([1])}, {"v": F16([2])})
    Path("whole.st").unlink()
    revise("subtract", "two.st", OUT, (), ["b2.st"], search=(Path("else"),))

    assert {"u": ("F16", (1,), b"\x00\x3c"), "v": ("F16", (1,), b"\x00\x40")} == contents(Path(OUT))


@pytest.mark.parametrize("arrays", [{"w": np.zeros(50, F16)}, {"v": np.zeros(3, F16)}])
def test_other_content_at_a_hint_is_refused(four, arrays):
    save(Path("a.st"), **arrays)

    pattern = r"^.*a\.st: has other content than the ledger records \(search=DIR"
    refused(pattern, "subtract", "soup.st", OUT, (), ["b.st"])
    refused("is not found", "subtract", "soup.st", OUT, (), ["b.st"], search=(Path(),))


def test_a_search_skips_other_content(four):
    Path("moved").mkdir()
    Path("a.st").rename("moved/a.st")
    save(Path("a.st"), w=np.zeros(50, F16))
    average(Path("expected.st"), Path("moved/a.st"), (Path("c.st"), 2))
    revise("subtract", "soup.st", OUT, (), ["b.st"], search=(Path("moved"),))

    assert contents(Path("expected.st")) == contents(Path(OUT))


def test_every_descendant_of_a_rounded_soup_is_approximate(four):
    made = revise("subtract", "soup.st", "1.st", (), ["b.st"], approximate=True)
    after = revise("add", "1.st", "2.st", ["d.st"])
    average(Path("fresh.st"), Path("d.st"))
    joined = revise("add", "fresh.st", "3.st", ["1.st"])

    assert [False, False, False] == [each.ledger.exact for each in (made, after, joined)]
    assert [True] == [record.exact for record in made.ledger.chain]
    assert [True, False] == [record.exact for record in after.ledger.chain]
    assert {"a.st", "c.st"} == {entry.hint for entry in made.ledger.ingredients}


def test_hints_to_ingredients_that_were_not_opened_are_kept(four):
    Path("sub").mkdir()
    made = revise("subtract", "soup.st", Path("sub/1.st"), (), ["b.st"], approximate=True)

    assert {"../a.st", "../c.st"} == {entry.hint for entry in made.ledger.ingredients}


def test_a_rounded_soup_counts_with_its_whole_weight(tmp_path):
    for name, value in (("a", 1), ("b", 3), ("c", 8)):
        save(tmp_path / f"{name}.st", w=np.float32([value]))
    a, b, c = (tmp_path / f"{name}.st" for name in "abc")
    average(tmp_path / "soup.st", a, b, (c, 2))
    a.unlink()
    for change, expected in {((), (b,)): 17 / 3, ((b,), ((c, 1),)): 15 / 4}.items():
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}.st"
        revise("any", tmp_path / "soup.st", output, *change, approximate=True, again=True)
        assert np.float32([expected]) == np.frombuffer(contents(output)["w"][2], np.float32)


def test_a_soup_without_a_ledger_is_computed_with_as_it_is(four):
    save(Path("foreign.st"), w=F16([1, 2]))
    save(Path("x.st"), w=F16([3, 0]))
    made = revise("subtract", "foreign.st", OUT, (), ["x.st"], total=Fraction(5))
    held = {entry.name: entry.weight for entry in made.ledger.ingredients}

    assert (False, {"foreign.st": 5, "x.st": -1}) == (made.ledger.exact, held)
    assert F16([0.5, 2.5]).tobytes() == contents(Path(OUT))["w"][2]
    assert [("given", False)] == [(each.operation, each.exact) for each in made.ledger.chain]
    refused("has a ledger", "add", "soup.st", "2.st", ["x.st"], total=Fraction(5))
    leavers = [("x.st", 5)]
    refused(
        "nothing would be left", "subtract", "foreign.st", "2.st", (), leavers, total=Fraction(5)
    )


def test_integers_that_differ_are_refused_without_on_int_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(Path(f"{name}.st"), w=F16([number]), ids=np.array([number // 2]))
    average(Path("soup.st"), Path("a.st"), Path("b.st"))
    arguments = ("add", "soup.st", OUT, ["c.st"])
    for approximate in (False, True):
        options = {"kind": MismatchError, "approximate": approximate}
        refused("has other values", *arguments, **options)


def test_an_approximate_change_keeps_the_integer_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save(Path(f"{name}.st"), w=F16([number]), ids=np.array([number]))
    average(Path("soup.st"), *(Path(f"{name}.st") for name in "abc"), on_int=OnInt.FIRST)
    made = revise("subtract", "soup.st", OUT, (), ["b.st"], approximate=True)

    assert (root("a.st"), ("ids",)) == (
        made.ledger.integer_source.digest,
        made.ledger.integer_source.tensors,
    )


def test_a_checkpoint_is_read_from_standard_input(four, monkeypatch):
    revise("add", "soup.st", "expected.st", ["d.st"])
    with Path("d.st").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        made = revise("add", "soup.st", OUT, ["-"])

    assert contents(Path("expected.st")) == contents(Path(OUT))
    assert "standard input" in {entry.name for entry in made.ledger.ingredients}


def test_no_ledger_names_an_absolute_path(four):
    revise("swap", four / "soup.st", four / "1.st", [four / "d.st"], [four / "b.st"])
    revise("subtract", four / "1.st", four / "2.st", (), [four / "d.st"], approximate=True)
    for name in ("1.st", "2.st"):
        text = metadata(Path(name))["soupctl"]

        assert str(four) not in text
        assert four.name not in text
        assert '"/' not in json.dumps(json.loads(text))


def test_an_average_of_an_approximate_soup_is_approximate(four):
    revise("subtract", "soup.st", OUT, (), ["b.st"], approximate=True)

    assert average(Path("all.st"), OUT, "d.st").ledger.exact is False
    assert average(Path("other.st"), "soup.st", "d.st").ledger.exact is True


def test_a_search_path_that_is_not_a_folder_is_refused(four):
    with pytest.raises(InputError, match=r"nowhere: is not a folder to search"):
        revise("subtract", "soup.st", OUT, (), ["b.st"], search=(Path("nowhere"),))
