"""Content digests: what they are of, and that they never change."""

from __future__ import annotations

import itertools
import json

import pytest
from blake3 import blake3

from soupctl.checkpoints.digest import RootHasher, root_of, tensor_hasher, text_digest

ROWS = [
    ("a", "F16", (2, 3), "11" * 32),
    ("é", "F32", (), "22" * 32),
    ("\uffff", "U8", (0,), "33" * 32),
    ("\U0001f372", "BF16", (1,), "44" * 32),
]


def test_the_root_of_known_tensors_is_known():
    # every ledger holds such roots: this value is not to be changed, ever
    expected = "blake3:bc03f370dd19fc416341fb9f14aa9668588089134514987e4c667bcd57c07fa6"

    assert expected == root_of(ROWS)


def test_the_root_is_the_digest_of_canonical_json():
    text = json.dumps([list(row) for row in ROWS], separators=(",", ":"), ensure_ascii=False)

    assert f"blake3:{blake3(text.encode()).hexdigest()}" == root_of(ROWS)


def test_the_root_does_not_depend_on_the_order_of_the_tensors():
    assert {root_of(ROWS)} == {root_of(rows) for rows in itertools.permutations(ROWS)}


def test_rows_are_in_the_order_of_their_utf8_names():
    names = [name for name, *_ in ROWS]

    assert names == sorted(names, key=str.encode)


def test_tensors_that_come_one_at_a_time_have_the_same_root():
    hasher = RootHasher()
    for row in ROWS:
        hasher.add(*row)

    assert root_of(ROWS) == hasher.digest()


def test_no_tensors_have_a_root():
    assert f"blake3:{blake3(b'[]').hexdigest()}" == root_of([])


@pytest.mark.parametrize("second", ["a", "", "A"])
def test_tensors_out_of_order_are_a_mistake(second):
    hasher = RootHasher()
    hasher.add("a", "U8", (1,), "11" * 32)

    with pytest.raises(ValueError, match="does not come after 'a'"):
        hasher.add(second, "U8", (1,), "11" * 32)


@pytest.mark.parametrize("field", range(4))
def test_every_field_of_a_tensor_shows_in_the_root(field):
    changed = list(ROWS[0])
    changed[field] = ["b", "BF16", (3, 2), "12" * 32][field]

    assert root_of(ROWS) != root_of([tuple(changed), *ROWS[1:]])


def test_a_tensor_is_hashed_in_parts_as_in_one():
    hasher = tensor_hasher()
    hasher.update(b"so")
    hasher.update(memoryview(b"up"))

    assert blake3(b"soup").hexdigest() == hasher.hexdigest()


def test_a_text_is_digested_as_utf8():
    expected = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

    assert expected == text_digest("")
    assert f"blake3:{blake3('é'.encode()).hexdigest()}" == text_digest("é")
