"""What was altered in a kept sum is found, and nothing is made of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keeping import digest, forge, form_of, sealed, sum_of, text_of, write
from making import Raw, contents, files, metadata, save
from revising import average, revise

from soupctl import verbs
from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType
from soupctl.verbs import Level

F16 = np.float16


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The sum of a, b and c, with planes of every kind, beside their soup in the working folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(5)
    for number, name in enumerate("abcd"):
        few = np.ones(40, np.float32)
        few[3 * number : 3 * number + 3] = 2**-60
        save(
            Path(f"{name}.st"),
            narrow=generator.normal(0, 1, 20).astype(F16),
            sparse=few,
            dense=3.0 ** (generator.integers(0, 60, 8) * (-1.0) ** number),
            ids=np.arange(3),
        )
    average(Path("soup.st"), "a.st", "b.st", "c.st", keep_sum=True)
    return sum_of(Path("soup.st"))


CHANGES: dict[str, tuple[list[str], list[str]]] = {
    "subtract": ([], ["a.st"]),
    "add": (["d.st"], []),
    "swap": (["d.st"], ["b.st"]),
}


def assert_unproven(kept: Path, highest: Level) -> None:
    """No level above `highest` is proven of the soup, and the sum is said to be at fault."""
    (found,) = verbs.verify("soup.st")

    assert not found.reaches(None)
    assert list(Level).index(found.level) <= list(Level).index(highest)
    assert found.problem is not None
    assert kept.name in found.problem
    assert "\n" not in found.problem


def assert_unused(kept: Path) -> None:
    """Nothing is made of the sum, whatever is asked; the sum is what is said to be at fault."""
    before = files(Path())
    for operation, (added, removed) in CHANGES.items():
        for soup, output in (("soup.st", "out.st"), ("soup.st", "soup.st"), (kept, "out.st")):
            with pytest.raises(LedgerError) as caught:
                revise(operation, soup, Path(output), added, removed, force=True)
            assert kept.name in caught.value.message()
            assert "\n" not in caught.value.message()
    assert before == files(Path())


def test_the_sum_that_is_tampered_with_has_planes_of_every_kind(kept):
    forms = {name: form_of(kept, name) for name in ("narrow", "sparse", "dense")}

    assert "0:F32" == forms["narrow"]
    assert "0:F64 1i:U32 1v:F64" == forms["sparse"]
    assert forms["dense"].startswith("0:F64 1:F64")
    assert "c:ids" in contents(kept)


def test_every_change_of_a_sums_bytes_is_found(kept):
    raw = kept.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    places = set()
    end = start
    for _, _, data in contents(kept).values():
        places |= {end, end + len(data) - 1}
        end += len(data)
    for place in sorted(places):
        for bits in (1, 0x7F):
            altered = bytearray(raw)
            altered[place] ^= bits
            kept.write_bytes(altered)

            assert_unproven(kept, Level.HEADER)
            assert_unused(kept)


def other(value: object) -> object:
    """A value of the same kind that is not the same."""
    if isinstance(value, str) and value.startswith("blake3:"):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    if isinstance(value, str):
        return "7" if value.isdigit() else "BF16"
    return [] if isinstance(value, list) else 7


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict | list):
        return [place]
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return [leaf for key, part in parts for leaf in leaves(part, (*place, key))]


@pytest.mark.parametrize("key", ["soupctl.sum", "soupctl"])
def test_every_change_of_a_value_in_a_sums_records_is_found(kept, key):
    tensors, texts = contents(kept), metadata(kept)
    for *way, last in leaves(json.loads(texts[key])):
        document = inner = json.loads(texts[key])
        for step in way:
            inner = inner[step]
        if inner[last] is None or isinstance(inner[last], bool):
            inner[last] = not inner[last]
        else:
            inner[last] = other(inner[last])
        write(kept, tensors, {**texts, key: text_of(document)})

        assert_unproven(kept, Level.NOTHING)
        with pytest.raises(LedgerError):
            revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
        assert not Path("out.st").exists()


def test_a_sum_without_its_records_is_none(kept):
    tensors, texts = contents(kept), metadata(kept)
    for key in texts:
        write(kept, tensors, {name: text for name, text in texts.items() if name != key})

        assert_unproven(kept, Level.NOTHING)
        with pytest.raises(LedgerError, match="is no sum of a soup"):
            revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])


def test_the_sum_of_another_soup_is_not_taken_for_this_ones(kept):
    others = {
        "fewer": {"ingredients": ["a.st", "b.st"]},
        "others": {"ingredients": ["a.st", "b.st", "d.st"]},
        "weights": {"ingredients": ["a.st", "b.st", ("c.st", 2)]},
        "selection": {"ingredients": ["a.st", "b.st", "c.st"], "excludes": ("ids",)},
        "dtype": {"ingredients": ["a.st", "b.st", "c.st"], "dtype": DType.F64},
    }
    for name, asked in others.items():
        average(Path(f"{name}.st"), *asked.pop("ingredients"), **asked, keep_sum=True)
        sum_of(Path(f"{name}.st")).replace(kept)

        assert_unproven(kept, Level.NOTHING)
        with pytest.raises(LedgerError, match="is the sum of another soup"):
            revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])


def test_a_sum_of_the_same_proportions_is_this_ones(kept):
    average(Path("double.st"), ("a.st", 2), ("b.st", 2), ("c.st", 2), keep_sum=True)
    sum_of(Path("double.st")).replace(kept)
    revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
    average(Path("expected.st"), "b.st", "c.st")

    assert contents(Path("expected.st")) == contents(Path("out.st"))
    assert Level.REBUILD is verbs.verify("soup.st")[0].level


def test_what_is_no_whole_file_at_the_place_of_a_sum_is_refused(kept):
    raw = kept.read_bytes()
    for damaged in (b"", raw[:7], raw[:100], raw[:-1], raw + b"\0", Path("a.st").read_bytes()):
        kept.write_bytes(damaged)

        assert_unproven(kept, Level.NOTHING)
        with pytest.raises(LedgerError, match="without the sum, the soup is recomputed"):
            revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
    kept.unlink()
    kept.mkdir()

    assert_unproven(kept, Level.NOTHING)
    with pytest.raises(LedgerError, match="is a folder"):
        revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])


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

    assert_unproven(kept, Level.NOTHING)
    with pytest.raises(LedgerError, match="is the sum of another soup"):
        revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
