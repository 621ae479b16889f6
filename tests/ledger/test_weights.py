"""Weights are read as exact rationals and scaled to whole numbers, or refused with advice."""

from __future__ import annotations

from fractions import Fraction
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import calls_in

from soupctl.engines.splitting import LARGEST_WEIGHT
from soupctl.errors import UsageError
from soupctl.ledger.weights import (
    LARGEST,
    parse_weight,
    read_weight,
    require_positive_total,
    rounded_weight,
    scaled,
    weight_text,
)

wholes = st.integers(-50, 50).filter(bool)
rationals = st.builds(Fraction, wholes, st.integers(1, 50))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.7", Fraction(7, 10)),
        ("1/3", Fraction(1, 3)),
        (".5", Fraction(1, 2)),
        ("2.", Fraction(2)),
        ("+2", Fraction(2)),
        ("-1", Fraction(-1)),
        ("-2/4", Fraction(-1, 2)),
        ("007", Fraction(7)),
        ("0.1", Fraction(1, 10)),
        ("9" * 60, Fraction(10**60 - 1)),
        ("0." + "1" * 40, Fraction(int("1" * 40), 10**40)),
        ("70%", Fraction(7, 10)),
        ("+12.5%", Fraction(1, 8)),
        ("-.5%", Fraction(-1, 200)),
        ("1e-3", Fraction(1, 1000)),
        ("2.5E-1", Fraction(1, 4)),
        ("1e9", Fraction(10**9)),
        ("2.5E+3", Fraction(2500)),
        ("1e-60", Fraction(1, 10**60)),
        ("10e-61", Fraction(1, 10**60)),
    ],
)
def test_a_weight_is_the_rational_that_its_text_says(text, value):
    assert value == parse_weight(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        ".",
        "-.",
        "1e400",
        "1e-",
        "e-3",
        "1e-3%",
        "1/3%",
        "1/3e-1",
        "%",
        "7 %",
        "70%%",
        "1e-100",
        "0x10",
        "1_000",
        "1,5",
        "1.5/2",
        "1/2/3",
        "1/-2",
        "/2",
        "2/",
        "--1",
        " 1",
        "1 ",
        "1\n",
        "nan",
        "inf",
        "Infinity",
        "\u0663",
        "\u00bd",
        "\uff11",
        "1\u2044 2",
        "9" * 61,
        "0." + "1" * 61,
        "1/" + "9" * 61,
        "9" * 1_000_000,
    ],
)
def test_a_malformed_weight_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"is not a weight \(such as 2, 0.25, 70%, 1e-3 or 1/3\)"):
        parse_weight(text)


@pytest.mark.parametrize("text", ["1e-61", "1e99", f"0.{'1' * 30}e-31"])
def test_a_weight_of_too_many_digits_is_refused(text):
    with pytest.raises(UsageError, match="has more than 60 digits"):
        parse_weight(text)


@pytest.mark.parametrize("text", ["0", "0.0", "-0", "0/5", ".0"])
def test_a_weight_of_zero_is_refused(text):
    with pytest.raises(UsageError, match="weight of zero"):
        parse_weight(text)


@pytest.mark.parametrize("text", ["1/0", "0/0", "-3/00"])
def test_a_division_by_zero_is_refused(text):
    with pytest.raises(UsageError, match="divides by zero"):
        parse_weight(text)


@given(st.lists(rationals, min_size=1, max_size=6).filter(lambda weights: sum(weights) > 0))
def test_scaled_weights_keep_proportions_and_have_no_common_factor(weights):
    whole = scaled(weights)

    assert all(isinstance(number, int) for number in whole)
    assert 1 == gcd(*whole)
    shares = [weight / sum(weights) for weight in weights]
    assert shares == [Fraction(number, sum(whole)) for number in whole]


@given(st.lists(rationals, min_size=1, max_size=6).filter(lambda weights: sum(weights) > 0))
def test_equal_proportions_scale_to_equal_numbers(weights):
    assert scaled(weights) == scaled([weight * Fraction(22, 7) for weight in weights])


@pytest.mark.parametrize("weights", [[1, -1], [1, -2], [-1], [Fraction(1, 3), Fraction(-1, 2)]])
def test_a_total_that_is_not_positive_is_refused(weights):
    with pytest.raises(UsageError, match="total must be positive"):
        scaled([Fraction(weight) for weight in weights])


def test_no_weight_may_be_zero():
    with pytest.raises(UsageError, match=r"a weight is zero \(leave the ingredient out\)"):
        scaled([Fraction(1), Fraction(0)])


@pytest.mark.parametrize(
    "weights",
    [
        [LARGEST],
        [LARGEST - 1, 1],
        [LARGEST, -1],
        [LARGEST, LARGEST],
        [Fraction(1, LARGEST - 1), Fraction(1, 1)],
        [Fraction("0.123456789"), 1],
        [Fraction(0.1), 1],
        [Fraction("0.30000000000000004"), Fraction("0.7")],
    ],
)
def test_weights_up_to_the_limit_pass(weights):
    assert scaled([Fraction(weight) for weight in weights])


@pytest.mark.parametrize(
    ("weights", "advice"),
    [
        ([LARGEST, 1], "give fewer digits"),
        ([LARGEST + 1, -LARGEST], "give fewer digits"),
        ([-LARGEST - 1, LARGEST, LARGEST], "give fewer digits"),
        ([Fraction(1, LARGEST), 1], "give fewer digits"),
        ([Fraction("0.12345678901234567891"), 1], "round_weights=9 rounds"),
        (
            [Fraction(10**9, 10**10 + 7), Fraction(1, 3), Fraction(10**9, 10**10 + 9)],
            "round_weights=9",
        ),
    ],
)
def test_weights_beyond_the_limit_are_refused_with_advice(weights, advice):
    with pytest.raises(UsageError, match=rf"exceed 2\*\*62 \({advice}"):
        scaled([Fraction(weight) for weight in weights])


@pytest.mark.parametrize(
    "weights", [[Fraction(10) ** 61], [Fraction(1, 10**61), Fraction(1, 10**61)]]
)
def test_weights_of_more_digits_than_any_text_has_are_refused(weights):
    with pytest.raises(UsageError, match="digits"):
        scaled(weights)


def test_thousands_of_weights_without_a_common_denominator_are_refused_at_once():
    weights = [Fraction(1, 10**29 + 2 * step + 1) for step in range(20_000)]

    for refuse in (scaled, require_positive_total):

        def refused(refuse=refuse):
            with pytest.raises(UsageError, match="too fine"):
                refuse(weights)

        # a look at each at most, and no sum of them
        assert calls_in(refused) < 10 * len(weights)


def test_the_limit_is_that_of_the_engines():
    assert LARGEST == LARGEST_WEIGHT


@pytest.mark.parametrize(
    ("weight", "decimals", "expected"),
    [
        ("0.123456789", 4, "0.1235"),
        ("1/3", 9, "0.333333333"),
        ("-0.00005", 4, None),
        ("-0.00015", 4, "-0.0002"),
        ("0.5", 0, None),
        ("1.5", 0, "2"),
        ("7", 3, "7"),
    ],
)
def test_a_weight_is_rounded_as_if_so_asked(weight, decimals, expected):
    if expected is None:
        with pytest.raises(UsageError, match=f"is zero when rounded to {decimals} decimals"):
            rounded_weight(Fraction(weight), decimals)
    else:
        assert Fraction(expected) == rounded_weight(Fraction(weight), decimals)


@given(st.lists(rationals, min_size=1, max_size=6))
def test_the_weights_of_a_ledger_read_back(weights):
    assert weights == [read_weight(weight_text(weight)) for weight in weights]


@pytest.mark.parametrize(
    "text", ["0." + "0" * 29 + "1", "9" * 30 + "." + "9" * 30, "1/" + "9" * 30]
)
def test_every_weight_that_can_be_asked_for_fits_a_ledger_also_summed(text):
    weight = parse_weight(text)

    assert weight * 5000 == read_weight(weight_text(weight * 5000))


@pytest.mark.parametrize(
    "text", ["0", "0/1", "1/0", "01", "+1", "0.5", "1.0", "1e2", "", "1/", "-", "1/01", "9" * 101]
)
def test_a_weight_in_another_spelling_is_refused_in_a_ledger(text):
    with pytest.raises(ValueError, match="is not a weight"):
        read_weight(text)
