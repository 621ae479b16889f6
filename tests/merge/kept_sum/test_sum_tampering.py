"""What was altered in a kept sum is found, and nothing is made of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keeping import form_of, save_every_kind, sum_of, text_of, write
from making import contents, files, metadata
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
    return save_every_kind()


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
        with pytest.raises(LedgerError, match="is not a sum of a soup"):
            revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])


def test_the_sum_of_another_soup_is_refused(kept):
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


def test_a_sum_of_the_same_proportions_fits(kept):
    average(Path("double.st"), ("a.st", 2), ("b.st", 2), ("c.st", 2), keep_sum=True)
    sum_of(Path("double.st")).replace(kept)
    revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
    average(Path("expected.st"), "b.st", "c.st")

    assert contents(Path("expected.st")) == contents(Path("out.st"))
    assert Level.REBUILD is verbs.verify("soup.st")[0].level


def test_a_sum_of_the_same_ingredients_fits_whatever_selection_was_asked(kept):
    before = contents(Path("soup.st"))
    # that selects every tensor, so only the ledgers differ
    average(Path("asked.st"), "a.st", "b.st", "c.st", keys=("*",), keep_sum=True)
    assert contents(Path("asked.st")) == before
    sum_of(Path("asked.st")).replace(kept)
    revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
    average(Path("expected.st"), "b.st", "c.st")

    assert contents(Path("expected.st")) == contents(Path("out.st"))
    assert Level.REBUILD is verbs.verify("soup.st")[0].level


def test_a_truncated_file_in_place_of_the_sum_is_refused(kept):
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


def test_a_sum_that_was_altered_is_refused_with_the_way_out(kept):
    raw = kept.read_bytes()
    for changed in (raw[:-1] + bytes([raw[-1] ^ 1]), raw.replace(b'"weight', b'"Weight', 1)):
        kept.write_bytes(changed)

        with pytest.raises(LedgerError, match=r"\.sum: .* \(without the sum, the soup is recomp"):
            revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])
        assert "--" not in verbs.verify("soup.st")[0].problem
