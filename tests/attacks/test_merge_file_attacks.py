"""Recipes, weights by block and configs of adapters made by hand, each refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# the readers are beside this file
sys.path.append(str(Path(__file__).parent))

from merge_files import read_adapter_config

from soupctl.errors import InputError, UsageError
from soupctl.merge.blocks.request import read_blocks
from soupctl.merge.recipes.read import parse_recipe

BEYOND_FLOATS = b"1" + b"0" * 400


@pytest.mark.parametrize("field", [b"lora_alpha", b"r"])
def test_a_number_of_an_adapter_beyond_the_range_of_floats_is_refused(field):
    with pytest.raises(InputError, match="not a"):
        read_adapter_config(b'{"use_rslora": true, "%s": %s}' % (field, BEYOND_FLOATS))


@pytest.mark.parametrize("name", ["", ".", "..", "x/y", "../x", "a\0"])
def test_a_materialised_step_that_no_file_can_be_called_is_refused(name):
    steps = {name: {"average": ["a"], "materialise": True}, "z": {"average": [name]}}

    with pytest.raises(UsageError, match="no file can have this name"):
        parse_recipe({"inputs": {"a": "a.st"}, "steps": steps}, "recipe.toml", Path())


def test_blocks_of_a_text_longer_than_any_file_name_are_refused():
    with pytest.raises(UsageError, match="not a file, preset or list"):
        read_blocks("x" * 5000)
