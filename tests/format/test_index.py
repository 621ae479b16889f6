"""The index of a sharded checkpoint as a value, and the paths that it may not hold."""

from __future__ import annotations

import json

import pytest

from soupctl.errors import InputError
from soupctl.format.index import Index, encode_index, is_inside, parse_index

OUTSIDE = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/..",
    "./x",
    "a//b",
    "a/",
    "a\0b",
]


def index_of(content: object) -> bytes:
    return json.dumps(content).encode()


def test_an_index_says_which_file_holds_each_tensor():
    text = index_of({"metadata": {"total_size": 8}, "weight_map": {"a": "x.st", "b": "sub/y.st"}})

    assert Index({"a": "x.st", "b": "sub/y.st"}, {"total_size": 8}) == parse_index(text, "i.json")


def test_metadata_may_be_absent():
    assert Index({}, {}) == parse_index(b'{"weight_map":{}}', "i.json")


def test_metadata_may_be_null():
    assert Index({}, {}) == parse_index(b'{"metadata":null,"weight_map":{}}', "i.json")


@pytest.mark.parametrize(
    ("name", "plain"), [("./x", "x"), ("a//b", "a/b"), ("./a/./b", "a/b"), ("././x", "x")]
)
def test_parts_of_names_that_lead_nowhere_are_left_out(name, plain):
    assert {"w": plain} == parse_index(index_of({"weight_map": {"w": name}}), "i.json").weight_map
    assert not is_inside(name)


@pytest.mark.parametrize("name", ["/./x", "//x", "./..", "./../x", "./", "a/.", ".//"])
def test_parts_that_lead_nowhere_hide_no_way_outside(name):
    with pytest.raises(InputError, match="is not the name of a file"):
        parse_index(index_of({"weight_map": {"w": name}}), "i.json")


def test_encoding_and_parsing_are_inverse():
    index = Index({"b": "y.st", "a": "x.st"}, {"total_size": 2**70 // 2**10, "soupctl": "é"})

    assert index == parse_index(encode_index(index.weight_map, index.metadata), "i.json")


def test_an_index_is_written_as_hugging_face_writes_it():
    expected = """{
  "metadata": {
    "total_size": 3
  },
  "weight_map": {
    "a": "x.st",
    "b": "y.st"
  }
}
"""

    assert expected.encode() == encode_index({"b": "y.st", "a": "x.st"}, {"total_size": 3})


@pytest.mark.parametrize("name", sorted(set(OUTSIDE) - {"./x", "a//b"}))
def test_a_folder_cannot_name_files_outside_itself(name):
    with pytest.raises(InputError) as caught:
        parse_index(index_of({"weight_map": {"w": name}}), "i.json")

    (issue,) = caught.value.issues
    assert ("i.json", "w") == (issue.path, issue.tensor)
    assert "is not the name of a file in this folder" in issue.what


@pytest.mark.parametrize("name", ["model.safetensors", "a/b.st", "...", "..a", "a b", "é\\x"])
def test_names_inside_are_taken_as_they_are(name):
    assert is_inside(name)


@pytest.mark.parametrize("value", [1, None, True, ["x"], {"x": "y"}])
def test_a_file_that_is_not_a_string_is_refused(value):
    with pytest.raises(InputError, match=r"i\.json: w: "):
        parse_index(index_of({"weight_map": {"w": value}}), "i.json")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"weight_map":[]}',
        b'{"weight_map":null}',
        b'{"weight_map":{},"metadata":[]}',
        b'{"weight_map":{},"weight_map":{}}',
        b'{"weight_map":{"a":"x","a":"y"}}',
        b'{"weight_map":{},"metadata":{"a":NaN}}',
        b'{"weight_map":{},"metadata":{"a":1e400}}',
        b'{"weight_map":{},"metadata":{"a":%s}}' % (b"9" * 5000),
        b'{"weight_map":{},"metadata":{"a":%s%s}}' % (b"[" * 100_000, b"]" * 100_000),
        b'{"weight_map":{"\\ud800":"x"}}',
        b'{"weight_map":{}} x',
        b'\xef\xbb\xbf{"weight_map":{}}',
        b'{"weight_map":{"\xff":"x"}}',
        '{"weight_map":{}}'.encode("utf-16"),
    ],
)
def test_a_malformed_index_is_refused_in_one_line(text):
    with pytest.raises(InputError) as caught:
        parse_index(text, "i.json")

    assert str(caught.value).startswith("i.json: is not a valid index: ")
    assert "\n" not in str(caught.value)
