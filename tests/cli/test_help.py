"""The overview, and help by name: whole at every width."""

from __future__ import annotations

import pytest

from soupctl.cli.app import JOBS

NAMES = [name for names in JOBS.values() for name in names]


def test_soupctl_alone_prints_the_overview_as_a_usage_error(soupctl):
    alone, asked = soupctl(), soupctl("--help")

    assert (2, b"", asked.out) == (alone.code, alone.out, alone.err)
    assert (0, b"") == (asked.code, asked.err)


def test_the_overview_has_the_same_text_however_it_is_asked_for(soupctl):
    expected = soupctl("--help").out

    assert expected == soupctl("-h").out
    assert expected == soupctl("help").out


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_prints_the_text_of_its_help_option(soupctl, name):
    asked = soupctl("help", name)

    assert (0, b"") == (asked.code, asked.err)
    assert soupctl(name, "--help").out == asked.out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_help_is_cut_off_or_too_long(soupctl, width):
    for arguments in (["--help"], *([name, "--help"] for name in NAMES)):
        text = soupctl(*arguments, environment={"COLUMNS": str(width)}).text

        assert max(map(len, text.splitlines())) <= width, arguments
        # dots stand only where arguments are repeated
        rest = text.replace("]...", "").replace("...]", "")
        assert not [word for word in rest.split() if word[0].islower() and word.endswith("...")]


def test_every_summary_is_whole_in_the_overview(soupctl):
    text = " ".join(soupctl("--help").text.split())

    for name in NAMES:
        help_text = soupctl(name, "--help").text
        summary = " ".join(help_text.split("\n\n")[1].split())
        assert f"{name} {summary}" in text
