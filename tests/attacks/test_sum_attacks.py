"""Records of sums that were altered or forged: each is refused in one line, quickly."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from blake3 import blake3

from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType
from soupctl.ledger.sealed import canonical
from soupctl.merge.kept_sum.format import Facts, encode_facts, parse_facts


def strict_digest(text: str) -> str:
    return "blake3:" + blake3(text.encode("utf-8")).hexdigest()


def digest(text: str) -> str:
    # a hostile text may hold what no UTF-8 can
    return "blake3:" + blake3(text.encode("utf-8", "surrogatepass")).hexdigest()


LEDGER = "the text of a ledger"
RUNS = ((DType.F16, 3), (DType.I64, 1))
TEXT = encode_facts(Facts(Fraction(1, 3), digest("root"), (RUNS, RUNS)), LEDGER, strict_digest)


def refuse(text: str) -> None:
    """Assert that `text` is refused in few words."""
    with pytest.raises(LedgerError) as caught:
        parse_facts(text, LEDGER, "soup.sum", strict_digest)

    assert len(caught.value.message()) < 300
    assert "soup.sum: its record of a sum" in caught.value.message()
    assert "\n" not in caught.value.message()


def resealed(change: Callable[[dict[str, Any]], object]) -> str:
    """Changed facts with the digest that belongs to the change, as a forger would write it."""
    document = json.loads(TEXT)
    change(document)
    body = {key: value for key, value in document.items() if key != "digest"}
    document["digest"] = digest(canonical(body))
    return canonical(document)


def test_no_single_character_can_be_changed_left_out_or_put_in(record_property):
    record_property("altered texts", 3 * len(TEXT))
    for place in range(len(TEXT)):
        refuse(TEXT[:place] + chr(ord(TEXT[place]) ^ 1) + TEXT[place + 1 :])
        refuse(TEXT[:place] + TEXT[place + 1 :])
        refuse(TEXT[:place] + " " + TEXT[place:])


HOSTILE = (
    0,
    -1,
    1.5,
    1e400,
    float("nan"),
    True,
    None,
    "x",
    "0",
    "1e9",
    [],
    {},
    [[]],
    [["F16"]],
)
KEYS = ("dtypes", "format", "ledger", "root", "scale")


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_the_wrong_kind_is_refused_wherever_it_stands(key, value, record_property):
    record_property("forged fields", 1)
    text = resealed(lambda facts: facts.__setitem__(key, value))
    # of how many ingredients there are the ledger tells, and whoever reads that compares them
    if (key, value) in (("dtypes", []), ("dtypes", [[]])):
        assert len(value) == len(parse_facts(text, LEDGER, "x", strict_digest).dtypes)
    else:
        refuse(text)


@pytest.mark.parametrize("count", [0, -1, 1.5, 1e400, True, "3", None, [3]], ids=repr)
def test_a_count_is_a_whole_number_above_zero(count, record_property):
    record_property("forged fields", 1)
    refuse(resealed(lambda facts: facts["dtypes"][0][0].__setitem__(1, count)))


@pytest.mark.parametrize("dtype", ["F17", "f16", "", 16, None, ["F16"], {}], ids=repr)
def test_a_dtype_is_one_that_there_is(dtype, record_property):
    record_property("forged fields", 1)
    refuse(resealed(lambda facts: facts["dtypes"][0][0].__setitem__(0, dtype)))


@pytest.mark.parametrize(
    "scale", ["-1", "0", "0/1", "1/0", "2/4", "0.5", "+1", " 1", "1" * 101, "1/-3", "\u0661"]
)
def test_a_scale_is_a_reduced_fraction_above_zero(scale, record_property):
    record_property("forged fields", 1)
    refuse(resealed(lambda facts: facts.update(scale=scale)))


@pytest.mark.parametrize("key", [*KEYS, "digest"])
def test_facts_that_lack_something_or_say_more_are_refused(key):
    document = json.loads(TEXT)
    del document[key]
    refuse(canonical(document))
    if key != "digest":
        refuse(resealed(lambda facts: facts.pop(key)))
    refuse(resealed(lambda facts: facts.update({f"{key} ": 1})))
    refuse(TEXT.replace(f'"{key}":', f'"{key}":1,"{key}":'))


@pytest.mark.parametrize("version", [0, 2, 1.0, "1", True])
def test_another_format_is_refused(version):
    refuse(resealed(lambda facts: facts.update(format=version)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"dtypes"',
        "{}",
        "[" * 100_000,
        '{"dtypes":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"scale":' + "1" * 5000 + "}",
        '{"scale":NaN}',
        '{"dtypes":[' + "[]," * 30_000_000 + "[]]}",
        '{"scale":"' + "1" * 100_000_000 + '"}',
        "\ufeff" + TEXT,
        "\ud800",
    ],
    ids=lambda text: f"{text[:20]!a}-{len(text)}",
)
def test_a_text_that_is_no_record_of_a_sum_is_refused(text):
    refuse(text)


def test_a_lone_surrogate_is_refused():
    refuse(resealed(lambda facts: facts.update(root="\ud800")))
