"""A soup that deltas are applied in is changed and proven like any other, and so is a delta."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deltas import apply, delta
from making import contents, metadata, save
from revising import average, revise, root, verified

from soupctl import verbs
from soupctl.checkpoints.digest import text_digest
from soupctl.errors import InputError, LedgerError, MismatchError
from soupctl.format.dtypes import DType
from soupctl.format.header import encode_header, lay_out
from soupctl.ledger.entries import merged
from soupctl.ledger.ledger import DELTA_KEY, LEDGER_KEY
from soupctl.ledger.ledger_json import encode_ledger
from soupctl.merge.delta.format import encode_facts, parse_facts
from soupctl.verbs import Level


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    """A base, three checkpoints that were fine-tuned from it, and their deltas."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(5)
    for name in ("base", "a", "b", "c"):
        values = random.normal(0, 1, (2, 50)).astype(np.float16)
        zeros = np.where(values > 0, values, -0.0).astype(np.float16)
        save(Path(f"{name}.st"), v=values, w=zeros, ids=[1, 2])
    for name in "abc":
        delta(f"{name}.st", "base.st", f"{name}.delta")


def test_a_soup_without_a_delta_is_the_one_that_never_had_it():
    apply("base.st", ("a.delta", 2), ("b.delta", Fraction(-1, 3)), output="soup.st")
    apply("base.st", ("a.delta", 2), output="expected.st")

    revise("subtract", "soup.st", Path("left.st"), (), ["b.delta"])

    assert contents(Path("expected.st")) == contents(Path("left.st"))
    assert verbs.holds("left.st", "b.st") is None
    assert Level.REBUILD is verified(Path("left.st")).level


def test_one_remaining_delta_of_scale_one_gives_the_fine_tuned_checkpoint():
    apply("base.st", "a.delta", "b.delta", output="soup.st")

    revise("subtract", "soup.st", Path("left.st"), (), ["b.delta"])

    assert root("a.st") == root("left.st")
    assert Level.REBUILD is verified(Path("left.st")).level


def test_the_last_delta_leaves_a_mean_of_the_base_alone():
    apply("base.st", "a.delta", output="soup.st")

    revise("subtract", "soup.st", Path("left.st"), (), ["a.delta"])
    average("mean.st", "base.st")

    assert contents(Path("mean.st")) == contents(Path("left.st"))


def test_each_delta_is_left_out_in_turn_and_never_the_base():
    apply("base.st", "a.delta", "b.delta", output="soup.st")

    family = verbs.LeaveOneOut("soup.st", "without-{name}.st")
    verbs.leave_one_out(family)

    assert root("b.st") == root("without-a.delta.st")
    assert root("a.st") == root("without-b.delta.st")
    assert {"without-a.delta.st", "without-b.delta.st"} == {
        path.name for path in Path().glob("without*")
    }


def test_a_swap_puts_a_delta_in_with_the_scale_of_the_other():
    apply("base.st", ("a.delta", Fraction(1, 2)), output="soup.st")

    revise("swap", "soup.st", Path("new.st"), ["b.delta"], ["a.delta"])
    apply("base.st", ("b.delta", Fraction(1, 2)), output="expected.st")

    assert contents(Path("expected.st")) == contents(Path("new.st"))


def test_changes_that_do_not_suit_a_base_with_deltas_are_refused():
    apply("base.st", "a.delta", output="soup.st")
    average("mean.st", "a.st", "b.st")
    delta("b.st", "c.st", "other.delta")
    out = Path("x.st")

    with pytest.raises(MismatchError, match=r"b\.st: is a model, and soup\.st is a base with"):
        revise("add", "soup.st", out, ["b.st"])
    with pytest.raises(InputError, match="is a delta, not a model"):
        revise("add", "mean.st", out, ["a.delta"])
    with pytest.raises(MismatchError, match=r"other\.delta: is a delta of another base than that"):
        revise("add", "soup.st", out, ["other.delta"])
    with pytest.raises(LedgerError, match=r"base\.st: is the base of soup\.st"):
        revise("subtract", "soup.st", out, (), ["base.st"])
    with pytest.raises(LedgerError, match="has deltas applied, which cannot be taken out of a"):
        revise("subtract", "soup.st", out, (), ["a.delta"], approximate=True)
    with pytest.raises(LedgerError, match=r"a\.delta: is a delta, not a soup"):
        revise("add", "a.delta", out, ["b.delta"])
    assert not out.exists()


def test_a_soup_of_deltas_is_one_ingredient_of_a_mean():
    apply("base.st", "a.delta", "b.delta", output="soup.st")
    average("mean.st", "c.st", "base.st")

    made = revise("add", "mean.st", Path("more.st"), ["soup.st"])
    average("expected.st", "c.st", "base.st", "soup.st")

    assert {"c.st", "base.st", "soup.st"} == {each.name for each in made.ledger.ingredients}
    assert contents(Path("expected.st")) == contents(Path("more.st"))
    assert ["soup.st"] == [each.name for each in verbs.holds("more.st", "a.st") or ()]
    for name in ("more.st", "expected.st"):
        assert Level.REBUILD is verified(Path(name)).level, verified(Path(name))


def test_a_delta_is_proven_from_the_two_checkpoints_that_it_is_of():
    assert Level.REBUILD is verified(Path("a.delta")).level
    assert verbs.holds("a.delta", "a.st") is not None
    assert verbs.holds("a.delta", "b.st") is None
    Path("a.st").rename("gone")

    found = verified(Path("a.delta"))

    assert Level.DIGEST is found.level
    assert "a.st: is not found" in str(found.problem)


def test_a_forged_delta_is_shown_to_be_wrong():
    ((_, ledger),) = verbs.history("b.delta")
    entries = [
        replace(each, digest=root("a.st"), name="a.st", hint="a.st") if each.weight > 0 else each
        for each in ledger.ingredients
    ]
    text = encode_ledger(replace(ledger, ingredients=merged(entries)), text_digest)
    raw = contents(Path("b.delta"))
    old = metadata(Path("b.delta"))
    facts = parse_facts(old[DELTA_KEY], old[LEDGER_KEY], "", text_digest)
    sealed = {LEDGER_KEY: text, DELTA_KEY: encode_facts(facts, text, text_digest)}
    tensors = lay_out((name, DType(dtype), shape) for name, (dtype, shape, _) in raw.items())
    data = b"".join(raw[each.name][2] for each in tensors)
    Path("forged.delta").write_bytes(encode_header(tensors, sealed) + data)

    found = verified(Path("forged.delta"))

    assert (Level.DIGEST, True) == (found.level, found.refuted)
    assert "is not its fine-tuned checkpoint minus its base" in str(found.problem)
