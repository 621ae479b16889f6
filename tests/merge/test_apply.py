"""Deltas are applied exactly: base + sum(scale * delta), rounded once, and nothing is divided."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from deltas import apply, delta, floats, numbers, rounded, save_one
from making import contents, metadata, save
from revising import average, root

from soupctl import verbs
from soupctl.errors import LedgerError, MismatchError, UsageError
from soupctl.format.dtypes import FLOATS, narrowest

SIZE = 60
SCALES = ((Fraction(1, 2),), (-1,), (2, Fraction(-1, 3)), (1, 1))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("base", "fine"), list(product(FLOATS, FLOATS)), ids=lambda d: d.value)
def test_every_element_is_the_exact_sum_rounded_once(base, fine):
    dtypes = {"b": base, "x": fine, "y": base}
    data = {name: floats(dtype, SIZE, name) for name, dtype in dtypes.items()}
    for name, dtype in dtypes.items():
        save_one(f"{name}.st", dtype, data[name])
    delta("x.st", "b.st", "dx.st")
    delta("y.st", "b.st", "dy.st")
    b, x, y = (numbers(dtypes[name], data[name]) for name in "bxy")
    for scales in SCALES:
        out, total = narrowest(frozenset((base, fine))), list(b)
        for fine_tuned, scale in zip((x, y), scales, strict=False):
            total = [t + scale * (f - a) for t, f, a in zip(total, fine_tuned, b, strict=True)]
        pairs = tuple(zip(("dx.st", "dy.st"), scales, strict=False))
        if (expected := rounded(total, out)) is None:
            with pytest.raises(MismatchError, match="beyond the range"):
                apply("b.st", *pairs)
            continue
        apply("b.st", *pairs)

        assert (out.value, (SIZE,), expected) == contents(Path("out.st"))["w"], scales


def save_three() -> None:
    """A base and two checkpoints of three tensors, of which one differs in neither."""
    random = np.random.default_rng(5)
    same = random.normal(0, 1, 9).astype(np.float16)
    for name in ("a", "b", "c"):
        values = random.normal(0, 1, (2, 50)).astype(np.float16)
        zeros = np.where(values > 0, values, -0.0).astype(np.float16)
        save(Path(f"{name}.st"), {"format": "pt"}, v=values, w=zeros, same=same - 0, ids=[1, 2])


def test_add_difference_equals_a_mean_with_weights_that_add_up_to_one():
    save_three()
    delta("b.st", "c.st", "d.st")
    scale = Fraction(7, 10)

    apply("a.st", ("d.st", scale), other_base=True)
    average("mean.st", "a.st", ("b.st", scale), ("c.st", -scale))

    assert contents(Path("mean.st")) == contents(Path("out.st"))
    assert {"format": "pt"} == {k: v for k, v in metadata(Path("out.st")).items() if k[0] == "f"}


def test_deltas_of_other_bases_are_refused_unless_asked_for():
    save_three()
    delta("b.st", "c.st", "bc.st")
    delta("b.st", "a.st", "ba.st")

    with pytest.raises(
        MismatchError, match=r"bc.st: is a delta of another base than a.st \(other_"
    ):
        apply("a.st", "bc.st")
    with pytest.raises(MismatchError, match=r"bc.st: is a delta of another base than ba.st"):
        apply("a.st", "ba.st", "bc.st")
    assert not Path("out.st").exists()
    apply("a.st", "ba.st", "bc.st", other_base=True)


def test_the_same_delta_twice_counts_as_one_of_the_summed_scale():
    save_three()
    delta("b.st", "a.st", "d.st")
    delta("b.st", "a.st", "again.st")

    halves = apply("a.st", ("d.st", Fraction(1, 2)), ("again.st", Fraction(1, 2)))

    assert root("b.st") == halves.ledger.root
    assert apply("a.st", "d.st").ledger == halves.ledger
    with pytest.raises(UsageError, match="scales that cancel"):
        apply("a.st", ("d.st", 2), ("again.st", -2))


def test_integers_that_differ_are_taken_with_scale_one_or_from_the_base():
    save(Path("a.st"), w=np.ones(3, np.float16), ids=np.arange(3))
    save(Path("b.st"), w=np.zeros(3, np.float16), ids=np.arange(3) + 1)
    delta("b.st", "a.st", "d.st")

    apply("a.st", "d.st")
    assert contents(Path("b.st")) == contents(Path("out.st"))
    with pytest.raises(MismatchError, match=r"d.st: ids: keeps the I64 tensor whole"):
        apply("a.st", ("d.st", 2))
    made = apply("a.st", ("d.st", 2), on_int=verbs.OnInt.FIRST)
    assert contents(Path("a.st"))["ids"] == contents(Path("out.st"))["ids"]
    assert ("ids",) == made.ledger.integer_source.tensors


def test_the_result_is_the_same_whatever_the_order_of_deltas_and_the_pace():
    save_three()
    delta("b.st", "a.st", "x.st")
    delta("c.st", "a.st", "y.st")
    apply("a.st", ("x.st", 2), ("y.st", -1))

    given = [verbs.Ingredient("y.st", Fraction(-1)), verbs.Ingredient("x.st", Fraction(2))]
    execution = verbs.ExecutionOptions(3, 7)
    verbs.apply(verbs.Application("a.st", given, "other.st"), execution=execution)

    assert Path("out.st").read_bytes() == Path("other.st").read_bytes()


def test_a_soup_of_deltas_lists_them_and_holds_their_checkpoints():
    save_three()
    delta("b.st", "a.st", "d.st")

    made = apply("a.st", ("d.st", Fraction(-1, 2)))

    names = {entry.name: entry.weight for entry in made.ledger.ingredients}
    assert {"a.st": 1, "d.st": Fraction(-1, 2)} == names
    assert (root("a.st"), "apply") == (made.ledger.base, made.ledger.operation)
    assert [entry.name for entry in verbs.holds("out.st", "b.st") or ()] == ["d.st"]
    assert verbs.holds("out.st", "a.st") is not None
    assert verbs.holds("out.st", "c.st") is None


@pytest.mark.parametrize("damage", ["equal", "tensors", "ledger"])
def test_a_delta_with_an_altered_record_is_refused(damage):
    save_three()
    delta("b.st", "a.st", "d.st")
    raw = Path("d.st").read_bytes()
    place = raw.index(b"soupctl.delta")
    old, new = {
        "equal": (b"same", b"sane"),
        "tensors": (b"F16", b"F32"),
        "ledger": (b"soupctl.delta", b"soupctl.dElta"),
    }[damage]
    Path("d.st").write_bytes(raw[:place] + raw[place:].replace(old, new, 1))

    with pytest.raises((LedgerError, MismatchError)):
        apply("a.st", "d.st")
    assert not Path("out.st").exists()


def test_a_delta_of_other_tensors_than_its_ledger_says_is_refused():
    save_three()
    delta("b.st", "a.st", "d.st")
    raw = bytearray(Path("d.st").read_bytes())
    raw[-200] ^= 1
    Path("d.st").write_bytes(raw)

    with pytest.raises(LedgerError, match="its ledger does not match its tensors"):
        apply("a.st", ("d.st", 2))
