"""The benchmark of rounding compares with exact values, and counts distances rightly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import rounding

SIZE = 8
SHARES = {rounding.BLOCK: Fraction(65, 100), rounding.OTHER: Fraction(1)}


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_the_result_compared_with_is_the_exact_value_rounded_once(tmp_path, dtype):
    given, loras = rounding.models(SIZE, dtype)

    made = rounding.exact(tmp_path, given, loras, dtype)

    for name, share in SHARES.items():
        codes = made[name].reshape(SIZE, SIZE)
        for place in np.ndindex(SIZE, SIZE):
            base, anime, photo, style = (
                Fraction(float(given[model][name][place]))
                for model in ("base", "anime", "photo", "style")
            )
            value = share * (anime * 7 / 10 + photo * 3 / 10 + (style - base) * 8 / 10)
            value += (1 - share) * photo
            for lora, scale in ((loras["one"], Fraction(4, 5)), (loras["two"], Fraction(2, 5))):
                row, column = lora.up[name][place[0]], lora.down[name][:, place[1]]
                value += scale / 2 * sum(map(product, row, column))
            assert is_nearest(codes[place], value, dtype), (name, place)
    photo = rounding._codes(given["photo"][rounding.VAE], dtype)
    assert (photo.reshape(-1) == made[rounding.VAE]).all()


def product(one: np.float32, other: np.float32) -> Fraction:
    """The exact product of two floats."""
    return Fraction(float(one)) * Fraction(float(other))


def is_nearest(code: np.uint16, value: Fraction, dtype: str) -> bool:
    """Whether no neighbour of a 16-bit float is nearer to a value."""
    here = abs(number(int(code), dtype) - value)
    beside = (int(code) - 1, int(code) + 1) if code & 0x7FFF else (1, 0x8001)
    return all(here <= abs(number(each, dtype) - value) for each in beside)


def number(code: int, dtype: str) -> Fraction:
    """The value of a 16-bit float."""
    if dtype == "F16":
        return Fraction(float(np.uint16(code).view(np.float16)))
    return Fraction(float(np.uint32(code << 16).view(np.float32)))


def test_units_in_the_last_place_are_counted_across_zero():
    one = np.array([0x0000, 0x8000, 0x0001, 0x3C00], np.uint16)
    other = np.array([0x8000, 0x0000, 0x8002, 0x3BFE], np.uint16)

    assert [0, 0, 3, 2] == rounding.ulps(one, other).tolist()


def test_every_way_is_compared_in_every_dtype(monkeypatch):
    monkeypatch.setattr(rounding, "RANK", 4)

    found = rounding.distances(SIZE)

    assert 6 == len({(each.dtype, each.way) for each in found})
    assert all(0 <= each.several <= each.differing <= 1 for each in found)
