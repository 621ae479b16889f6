"""A pattern that is compiled late does what one of `re.compile` does."""

import re

import pytest

from soupctl.pattern import pattern


def test_a_pattern_matches_as_one_of_the_standard_library():
    ours, theirs = pattern(r"(a+)b", re.IGNORECASE), re.compile(r"(a+)b", re.IGNORECASE)

    assert ours.sub("-", "xAABy") == theirs.sub("-", "xAABy") == "x-y"
    assert ours.fullmatch("ab")[1] == "a"
    assert ours.fullmatch("b") is None
    assert (ours.pattern, ours.flags) == (theirs.pattern, theirs.flags)
    assert pattern(rb"\d+").findall(b"1 23") == [b"1", b"23"]


def test_a_pattern_is_compiled_when_it_is_first_used(monkeypatch):
    compiled, original = [], re.compile

    def counted(text, flags):
        compiled.append(text)
        return original(text, flags)

    monkeypatch.setattr(re, "compile", counted)
    late = pattern("a|b")
    assert compiled == []
    assert late.match("a")
    assert late.match("c") is None
    assert compiled == ["a|b"]


def test_a_mistake_is_raised_at_the_first_use():
    with pytest.raises(re.error):
        pattern("(").match("")
