import json
from fractions import Fraction

import pytest

from soupctl.banks.stack_json import StackEntry, encode_stack, is_member_name, parse_stack
from soupctl.errors import InputError

DIGEST = "blake3:" + "a" * 64
ENTRIES = (StackEntry("a", Fraction(1, 3), DIGEST), StackEntry("b.x", Fraction(-2), DIGEST))


def test_a_stack_reads_back_sorted_as_it_was_written():
    assert ENTRIES == parse_stack(encode_stack(ENTRIES[::-1]), "stack")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\n", "a\0", "-rf", "a" * 101])
def test_a_member_name_is_a_single_part_of_a_path(name):
    assert not is_member_name(name)


def altered(**changes):
    return json.dumps({**json.loads(encode_stack(ENTRIES)), **changes}).encode()


def member(**changes):
    return altered(members=[{"digest": DIGEST, "name": "a", "weight": "1", **changes}])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "not a valid stack"),
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (altered(stack_type="LORA"), "stack_type is 'LORA'"),
        (altered(format=2), "format is 2"),
        (altered(format=True), "format is True"),
        (altered(extra=1), "fields must be"),
        (altered(members=[]), "a list of 1 to 1000"),
        (altered(members={}), "a list of 1 to 1000"),
        (altered(members=["a"]), "must be digest, name and weight"),
        (member(more=1), "must be digest, name and weight"),
        (member(name="../a"), "'../a' cannot be the name"),
        (member(name=1), "1 cannot be the name"),
        (member(digest="blake3:x"), "'blake3:x' is not a digest"),
        (member(weight=1), "'' is not a weight"),
        (member(weight="0"), "'0' is not a weight"),
        (member(weight="1e9"), "'1e9' is not a weight"),
        (altered(members=json.loads(encode_stack(ENTRIES))["members"][::-1]), "must be sorted"),
        (altered(members=json.loads(encode_stack(ENTRIES[:1]))["members"] * 2), "must be sorted"),
    ],
)
def test_an_invalid_stack_config_is_refused_in_one_line(text, problem):
    with pytest.raises(InputError, match=f"^stack: .*{problem}") as refusal:
        parse_stack(text, "stack")

    assert "\n" not in str(refusal.value)
