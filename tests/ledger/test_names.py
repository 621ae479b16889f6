"""Ledgers call ingredients by short names that tell them apart, and hint without absolute paths."""

from __future__ import annotations

import os
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.ledger.names import hint, unique_names

parts = st.sampled_from(["a", "b", "\u00e9", "c.st", "\udcff", "\udcfe", " "])
paths = st.lists(parts, min_size=1, max_size=6).map(lambda found: "/" + "/".join(found))


@given(st.lists(paths, max_size=8))
def test_paths_that_differ_get_names_that_differ(found):
    names = unique_names(found)

    assert len(found) == len(names)
    assert len(set(found)) == len(set(names))
    assert len(set(found)) == len(set(zip(found, names, strict=True)))


@given(st.lists(paths, max_size=8), st.randoms())
def test_a_name_does_not_depend_on_the_order(found, random):
    expected = dict(zip(found, unique_names(found), strict=True))
    random.shuffle(found)

    assert expected == dict(zip(found, unique_names(found), strict=True))


@given(st.lists(paths, max_size=8))
def test_a_name_is_relative_and_goes_into_json(found):
    for name in unique_names(found):
        assert not posixpath.isabs(name)
        assert name.encode("utf-8")


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ([], ()),
        (["/m/a.st"], ("a.st",)),
        (["/m/a.st", "/m/b.st"], ("a.st", "b.st")),
        (["/m/x/a.st", "/m/y/a.st", "/m/y/b.st"], ("x/a.st", "y/a.st", "b.st")),
        (["/p/x/m/a", "/q/x/m/a"], ("p/x/m/a", "q/x/m/a")),
        (["/m/a.st", "/m/a.st"], ("a.st", "a.st")),
        (["/m/a.st", "/m/a.st", "/n/a.st"], ("m/a.st", "m/a.st", "n/a.st")),
        (["/a", "/m/a"], ("a", "m/a")),
        (["standard input", "/m/a"], ("standard input", "a")),
        (["/m/\udcff.st", "/m/\udcfe.st"], ("\\xff.st", "\\xfe.st")),
    ],
)
def test_a_name_is_the_shortest_end_of_the_path_that_is_unique(found, names):
    assert names == unique_names(found)


def test_thousands_of_names_take_a_moment():
    found = [f"/models/{number // 10}/{number % 10}/model.st" for number in range(20_000)]

    assert len(found) == len(set(unique_names(found)))


@given(paths, paths)
def test_a_hint_is_never_absolute_and_at_most_two_levels_up(ingredient, folder):
    found = hint(ingredient, folder)

    assert not posixpath.isabs(found)
    assert found.split("/").count("..") <= 2
    assert found.encode("utf-8")


@given(paths, paths)
def test_a_hint_that_climbs_leads_to_the_ingredient(ingredient, folder):
    found = hint(ingredient, folder)
    if found.isascii() and "\\" not in found and "/" in found:
        assert ingredient == posixpath.normpath(posixpath.join(folder, found))


@pytest.mark.parametrize(
    ("ingredient", "folder", "expected"),
    [
        ("/m/a.st", "/m", "a.st"),
        ("/m/x/a.st", "/m", "x/a.st"),
        ("/m/a.st", "/m/out", "../a.st"),
        ("/m/x/a.st", "/m/out/deep", "../../x/a.st"),
        ("/m/x/a.st", "/m/out/deep/er", "a.st"),
        ("/home/user/models/a.st", "/scratch/soups/today/out", "a.st"),
        ("/m/\udcff.st", "/m", "\\xff.st"),
    ],
)
def test_a_hint_is_relative_to_the_soup(ingredient, folder, expected):
    assert expected == hint(ingredient, folder)


def test_names_and_hints_accept_any_file_name():
    name = os.fsdecode(b"caf\xe9.st")

    assert ("caf\\xe9.st", "caf\\xe9.st") == (
        *unique_names([f"/m/{name}"]),
        hint(f"/m/{name}", "/m"),
    )


def test_a_hint_does_not_lead_through_the_root_folder():
    assert hint("/home/user/a.st", "/tmp") == "a.st"
    assert hint("/data/a.st", "/data/soups") == "../a.st"
