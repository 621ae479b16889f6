"""A pattern that matches no tensor is refused, and similar names are said."""

from __future__ import annotations

from fractions import Fraction

import pytest

from soupctl.errors import UsageError
from soupctl.merge.recipe import Recipe, require_matches

NAMES = ("unet.conv.weight", "unet.conv.bias", "vae.norm.weight", "ids")


def refusal(names=NAMES, **patterns: tuple[str, ...]) -> str:
    with pytest.raises(UsageError) as caught:
        require_matches(Recipe((Fraction(1),), **patterns), names)
    return caught.value.message()


def test_patterns_that_match_something_pass():
    require_matches(Recipe((Fraction(1),), keys=("*", "i?s"), excludes=("vae.*", "[u]*")), NAMES)


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("uent.*", "similar: unet"),
        ("unet.cnv.*", "similar: unet.conv"),
        ("unet.conv.wght", "similar: unet.conv.weight, unet.conv.bias"),
        ("conv", "'*conv*' would match"),
        ("conv.*", "'*conv.*' would match"),
        ("zzz*", "soupctl inspect shows the names"),
        ("", "soupctl inspect shows the names"),
        ("[!a-z]*", "soupctl inspect shows the names"),
    ],
)
def test_the_message_names_the_pattern_and_a_suggestion(pattern, advice):
    expected = f"--key {pattern!r} matches no tensor ({advice})"
    assert expected == refusal(keys=(pattern,))


def test_every_pattern_without_a_match_is_named():
    expected = (
        "--key 'unet' matches no tensor ('*unet*' would match); "
        "--exclude 'steps' matches no tensor (soupctl inspect shows the names)"
    )
    assert expected == refusal(keys=("ids", "unet"), excludes=("steps", "vae*"))


def test_names_without_end_and_without_number_are_compared_in_no_time():
    many = [f"blocks.{number}.weight" for number in range(100_000)]
    long = ["." * 60_000, "a." * 30_000, "b" * 60_000]

    assert "similar: blocks" in refusal((*many, *long), keys=("blcks.*",))
    assert "similar: blocks.7.weight" in refusal((*many[:10], *long), keys=("blocks.7.wght",))
