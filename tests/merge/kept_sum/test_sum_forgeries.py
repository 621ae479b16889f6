"""Sums that were forged with every digest computed anew: refused, or found by rebuilding.

Rule 1: what no average could have written is refused before it is used; what one could have is
found by a rebuild, and by nothing less.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keeping import digest, forge, save_every_kind, sealed, sums_of, write
from making import Raw, contents, files, metadata, save
from revising import average, revise

from soupctl import verbs
from soupctl.errors import LedgerError
from soupctl.ledger.weights import LARGEST
from soupctl.merge import made_again
from soupctl.merge.kept_sum.opened import OpenedSum
from soupctl.merge.plan import Plan
from soupctl.verbs import Level


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The sum of a, b and c, with planes of every kind, beside their soup in the working folder."""
    monkeypatch.chdir(tmp_path)
    return save_every_kind()


def array(raw: Raw, kind: Any) -> Any:
    return np.frombuffer(raw[2], kind).copy()


def set_values(name: str, kind: Any, change: Any) -> Any:
    def put(tensors: dict[str, Raw]) -> None:
        values = array(tensors[name], kind)
        change(values)
        tensors[name] = (*tensors[name][:2], values.tobytes())

    return put


def put(place: int, value: Any) -> Any:
    return lambda values: values.__setitem__(place, value)


def rename(old: str, new: str) -> Any:
    return lambda tensors: tensors.__setitem__(new, tensors.pop(old))


FORGED_TENSORS = {
    "places out of order": set_values("1i:sparse", np.uint32, lambda v: v.sort() or put(0, 9)(v)),
    "a place twice": set_values("1i:sparse", np.uint32, lambda v: put(1, v[0])(v)),
    "a place out of range": set_values("1i:sparse", np.uint32, put(-1, 40)),
    "a place far out of range": set_values("1i:sparse", np.uint32, put(-1, 2**32 - 1)),
    "NaN in a sparse plane": set_values("1v:sparse", np.float64, put(0, np.nan)),
    "infinity in a first plane": set_values("0:sparse", np.float64, put(0, np.inf)),
    "NaN in a dense plane": set_values("1:dense", np.float64, put(-1, np.nan)),
    "NaN in a narrow plane": set_values("0:narrow", np.float32, put(3, np.nan)),
    "a tensor less": lambda tensors: tensors.pop("0:narrow"),
    "a tensor more": lambda tensors: tensors.update({"0:more": ("F32", (1,), bytes(4))}),
    "another shape": lambda tensors: tensors.update({"0:narrow": ("F32", (1,), bytes(4))}),
    "no first plane": rename("0:dense", "c:dense"),
    "a plane left out": rename("1:dense", "5:dense"),
    "places without values": lambda tensors: tensors.pop("1v:sparse"),
    "no mark": rename("0:narrow", "narrow"),
    "integers as a sum": lambda tensors: tensors.update({"0:ids": tensors.pop("c:ids")}),
}


@pytest.mark.parametrize("change", FORGED_TENSORS.values(), ids=FORGED_TENSORS)
def test_tensors_that_no_sum_has_are_refused_whatever_their_digests(kept, change):
    forge(kept, tensors=change)
    (found,) = verbs.verify("soup.st")

    assert not found.reaches(None)
    assert kept.name in (found.problem or "")
    before = files(Path())
    with pytest.raises(LedgerError) as caught:
        revise("subtract", "soup.st", Path("soup.st"), (), ["a.st"], force=True)
    assert kept.name in caught.value.message()
    assert before == files(Path())


FORGED_FACTS = {
    "a scale that the weights do not have": lambda facts: facts.update(scale="1/7"),
    "a huge scale": lambda facts: facts.update(scale="9" * 90),
    "a negative scale": lambda facts: facts.update(scale="-1"),
    "fewer ingredients": lambda facts: facts["dtypes"].pop(),
    "more ingredients": lambda facts: facts["dtypes"].append([["F16", 4]]),
    "fewer tensors": lambda facts: facts["dtypes"].__setitem__(0, [["F32", 2]]),
    "tensors without end": lambda facts: facts["dtypes"].__setitem__(1, [["F32", 10**400]]),
    "no tensors": lambda facts: facts["dtypes"].__setitem__(1, []),
    "no floats": lambda facts: facts["dtypes"].__setitem__(1, [["I64", 4]]),
}


@pytest.mark.parametrize("change", FORGED_FACTS.values(), ids=FORGED_FACTS)
def test_facts_that_no_sum_has_are_refused_whatever_their_digest(kept, change):
    forge(kept, facts=change)
    for name in "abc":
        Path(f"{name}.st").rename(f"{name}.hidden")
    before = files(Path())
    for missing in (["a.st"], ["b.st"], ["c.st"]):
        with pytest.raises(LedgerError):
            revise("subtract", "soup.st", Path("out.st"), (), missing)
    assert before == files(Path())


def test_a_consistent_forgery_is_found_by_rebuilding_and_by_nothing_less(kept):
    forge(kept, tensors=set_values("0:narrow", np.float32, put(0, 1024.0)))
    (shallow,) = verbs.verify("soup.st", level=Level.DIGEST)
    (deep,) = verbs.verify("soup.st", level=Level.REBUILD)

    assert (Level.DIGEST, None) == (shallow.level, shallow.problem)
    assert Level.DIGEST is deep.level
    assert f"{kept.name}: is not the sum of the soup's ingredients" == deep.problem
    assert not deep.reaches(None)
    revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
    (after,) = verbs.verify("out.st", level=Level.REBUILD)
    assert (Level.DIGEST, True) == (after.level, after.refuted)


def test_forged_dtypes_of_an_ingredient_are_found_by_rebuilding(kept):
    def widen(facts: dict[str, Any]) -> None:
        facts["dtypes"][2] = [["F64", 1], ["I64", 1], ["F64", 2]]

    forge(kept, facts=widen)
    (found,) = verbs.verify("soup.st")

    assert f"{kept.name}: is not the sum of the soup's ingredients" == found.problem


def test_a_sum_of_the_right_values_in_another_form_is_found_by_rebuilding(kept):
    def widen(tensors: dict[str, Raw]) -> None:
        _, shape, _ = tensors["0:narrow"]
        values = array(tensors["0:narrow"], np.float32).astype(np.float64)
        tensors["0:narrow"] = ("F64", shape, values.tobytes())

    forge(kept, tensors=widen)
    (found,) = verbs.verify("soup.st")

    assert f"{kept.name}: is not the sum of the soup's ingredients" == found.problem


def test_a_sum_bound_to_a_resealed_ledger_that_says_otherwise_is_refused(kept):
    """A forger changes the sum's ledger, seals it and the facts again, but not the soup's."""
    tensors, texts = contents(kept), metadata(kept)
    document = json.loads(texts["soupctl"])
    document["ingredients"][0]["weight"] = "5"
    ledger = sealed(document)
    facts = {**json.loads(texts["soupctl.sum"]), "ledger": digest(ledger)}
    write(kept, tensors, {**texts, "soupctl": ledger, "soupctl.sum": sealed(facts)})

    assert Level.NOTHING is verbs.verify("soup.st")[0].level
    with pytest.raises(LedgerError, match="is the sum of another soup"):
        revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])


def test_a_forged_sum_of_an_added_soup_is_refused(kept):
    average(Path("other.st"), "d.st", keep_sum=True)
    forge(kept, tensors=set_values("0:narrow", np.float32, put(3, np.nan)))
    before = files(Path())
    with pytest.raises(LedgerError, match="narrow: is not a valid sum: it holds NaN"):
        revise("add", "other.st", Path("out.st"), ["soup.st"])
    raw = bytearray(kept.read_bytes())
    raw[-1] ^= 1
    kept.write_bytes(raw)
    with pytest.raises(LedgerError, match=kept.name):
        revise("add", "other.st", Path("out.st"), ["soup.st"])

    assert not Path("out.st").exists()
    assert set(before) == set(files(Path()))


def test_a_scale_with_weights_that_are_not_exact_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, zero in (("a", 0.0), ("b", -0.0)):
        save(Path(f"{name}.st"), w=np.array([1, 1, zero], np.float32))
    average("soup.st", ("a.st", LARGEST), ("b.st", 1 - LARGEST), keep_sum=True)
    (kept,) = sums_of(Path("soup.st"))

    def larger(facts: dict[str, Any]) -> None:
        facts["scale"] = "4"

    forge(kept, tensors=set_values("0:w", np.float32, lambda v: v.__imul__(4)), facts=larger)
    (found,) = verbs.verify("soup.st")

    assert (True, Level.NOTHING) == (found.refuted, found.level)
    assert "records a scale that does not fit its weights" in found.problem
    with pytest.raises(LedgerError, match="records a scale that does not fit its weights"):
        revise("subtract", "soup.st", Path("out.st"), (), ["b.st"])


def test_a_soup_is_rebuilt_without_the_scale_of_its_sum(kept, monkeypatch):
    scaled = []

    def spy(self: OpenedSum, plan: Plan, weights: Any) -> Plan:
        scaled.append(rescaled(self, plan, weights))
        return scaled[-1]

    rescaled = OpenedSum.rescaled
    monkeypatch.setattr(OpenedSum, "rescaled", spy)
    orders = []
    execute = made_again.execute
    monkeypatch.setattr(
        made_again, "execute", lambda made, *more: orders.append(made) or execute(made, *more)
    )
    (found,) = verbs.verify("soup.st")

    plain, other = orders[0]
    assert Level.REBUILD is found.level
    assert (None, scaled) == (plain.sum, [other.plan])
    assert plain.plan is not other.plan
