"""Errors in Python name arguments; on the command line the same issues name options."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import soupctl
from soupctl import verbs
from soupctl.errors import ARGUMENTS, FLAG, Issue, MismatchError, UsageError, in_python
from soupctl.merge.average import Request
from soupctl.merge.revise import Revision

ROOMS = ("checkpoints", "engines", "format", "ledger", "merge", "storage")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ask for a wider dtype, such as --dtype F32", "ask for a wider dtype, such as dtype=F32"),
        ("-f replaces it", "force=True replaces it"),
        ("--allow-nonfinite lets IEEE rules apply", "allow_nonfinite=True lets IEEE rules apply"),
        ("see --key, --exclude, --component", "see keys, excludes, component"),
        ("--on-int first takes the first's", "on_int=first takes the first's"),
        ("--search DIR, --approximate or -o FILE", "search=DIR, approximate=True or output=FILE"),
        ("--threads 1 needs none", "threads=1 needs none"),
        ("a-f, --no-ema-x1 and - stay", "a-f, no_ema_x1 and - stay"),
        ("nothing to change", "nothing to change"),
    ],
)
def test_options_become_arguments(text, expected):
    assert expected == in_python(text)


def test_names_of_files_and_tensors_are_left_alone():
    issue = Issue("differs", "a --dtype F16.st", "w --key", "--dtype F32")
    error = MismatchError.collected([issue])

    assert "a --dtype F16.st: w --key: differs (dtype=F32)" == str(error)
    assert "a --dtype F16.st: w --key: differs (--dtype F32)" == error.message()


def test_every_issue_is_named_in_python():
    error = UsageError.collected([Issue(f"problem {number}") for number in range(9)])

    assert 9 == str(error).count("problem")


def test_every_option_that_a_message_below_the_command_line_names_is_an_argument():
    kinds = (Request, Revision, verbs.ExecutionOptions, verbs.EmaRequest, verbs.RecipeRun)
    kinds = (*kinds, verbs.Application, verbs.DeltaRequest, verbs.Sweep, verbs.MergeRequest)
    known = {each.name for kind in kinds for each in fields(kind)}
    # of functions, and of previews and training
    known |= {"force", "weights", "weight_by", "max_memory", "config", "plot", "base", "without"}
    known |= {"part", "workers"}
    root = Path(soupctl.__file__).parent
    strings = re.compile(r'"[^"\n]*"')
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            for text in strings.findall(path.read_text("utf-8")):
                for found in FLAG.finditer(text):
                    name = found["name"]
                    argument = ARGUMENTS.get(name, name.lstrip("-").replace("-", "_"))

                    assert argument in known, (path, text)
