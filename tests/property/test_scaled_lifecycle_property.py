"""Soups of quantised and plain ingredients hold, after any changes, the mean of what remains."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant
from lives import NAMES, KeptLife, Life, names
from making import Raw, contents, save_raw

from soupctl import verbs
from soupctl.choices import Quantization
from soupctl.engines.reference import decode, encode
from soupctl.format.dtypes import DType, narrowest

pytestmark = pytest.mark.timeout(900)

W, N = "blocks.0.q.weight", "norm.weight"
ROWS, COLUMNS = 4, 6
E4M3, F32 = DType.F8_E4M3, DType.F32
SCALES = {
    # the end of the scale's name, its shape, and the codes that each value is for
    "fp8 per tensor": ("scale_weight", (), (ROWS, COLUMNS)),
    "fp8 per channel": ("weight_scale", (ROWS, 1), (1, COLUMNS)),
    "fp8 per block of 2x3": ("weight_scale_inv", (2, 2), (2, 3)),
}


@dataclass(frozen=True)
class Stored:
    """One ingredient as it is stored, and what it stands for."""

    tensors: dict[str, Raw]
    width: DType
    values: tuple[Fraction, ...]
    scheme: str


def packed(values: list[Fraction], dtype: DType) -> bytes:
    codes = [encode(value, dtype) for value in values]
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes if code is not None)


@st.composite
def ingredients(draw: st.DrawFn) -> Stored:
    """Codes with a scale or floats, and beside them a norm of the width of plain weights."""
    width = draw(st.sampled_from((DType.F16, DType.BF16)))
    count = ROWS * COLUMNS
    scheme = draw(st.sampled_from(["", *SCALES]))
    norm = (width.value, (2,), packed([Fraction(1), Fraction(2)], width))
    sign = st.sampled_from((0, 128))
    codes = bytes(
        code | draw(sign)
        for code in draw(st.lists(st.integers(0, 126), min_size=count, max_size=count))
    )
    exact = [Fraction(decode(code, E4M3)) for code in codes]
    if not scheme:
        raw = packed(exact, width)
        shape = (ROWS, COLUMNS)
        return Stored({W: (width.value, shape, raw), N: norm}, width, tuple(exact), scheme)
    end, grid, (high, wide) = SCALES[scheme]
    number = int(np.prod(grid))
    numerators = draw(st.lists(st.integers(1, 2**24), min_size=number, max_size=number))
    scales = [Fraction(numerator, 2**30) for numerator in numerators]
    values = tuple(
        value * scales[place // COLUMNS // high * (COLUMNS // wide) + place % COLUMNS // wide]
        for place, value in enumerate(exact)
    )
    tensors: dict[str, Raw] = {
        W: ("F8_E4M3", (ROWS, COLUMNS), codes),
        f"blocks.0.q.{end}": ("F32", grid, packed(scales, F32)),
        N: norm,
    }
    return Stored(tensors, width, values, scheme)


pool = st.lists(
    ingredients(), min_size=len(NAMES), max_size=len(NAMES), unique_by=lambda each: each.values
)


class ScaledLife(Life):
    """A soup of ingredients in several schemes, quantised itself or not."""

    stored: dict[str, Stored]

    @initialize(found=pool, first=names, quantize=st.sampled_from((None, Quantization.FP8_SCALED)))
    def begin(self, found: list[Stored], first: str, quantize: Quantization | None) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.stored = dict(zip(NAMES, found, strict=True))
        self.choices, self.step = {"quantize": quantize}, 0
        (self.folder / "deep").mkdir()
        for name, each in self.stored.items():
            save_raw(self.path(name), each.tensors)
        self.held = {first: Fraction(1)}
        self.average(self.soup, self.path(first))

    def made(self) -> object:
        return {name: (dtype, data) for name, (dtype, _, data) in contents(self.soup).items()}

    def expected(self, held: dict[str, Fraction]) -> object:
        """The tensors that fractions make."""
        some = [(self.stored[name], weight) for name, weight in held.items()]
        total = sum(held.values())
        columns = zip(*(each.values for each, _ in some), strict=True)
        weights = [weight / total for _, weight in some]
        means = [
            sum((w * x for w, x in zip(weights, column, strict=True)), Fraction(0))
            for column in columns
        ]
        out = narrowest(frozenset(each.width for each, _ in some))
        found = {N: (out.value, packed([Fraction(1), Fraction(2)], out))}
        if self.choices["quantize"] is None:
            return {W: (out.value, packed(means, out)), **found}
        largest = max(map(abs, means))
        scale = np.float32(float(largest) / 448) if largest else np.float32(1)
        codes = packed([mean / Fraction(float(scale)) for mean in means], E4M3)
        return {
            W: ("F8_E4M3", codes),
            "blocks.0.q.scale_weight": ("F32", scale.tobytes()),
            "scaled_fp8": ("F8_E4M3", bytes(2)),
            **found,
        }

    @invariant()
    def the_ledger_says_how_each_ingredient_is_stored(self) -> None:
        if hasattr(self, "held"):
            ((_, ledger),) = verbs.history(self.soup)
            for entry in ledger.ingredients:
                scheme = self.stored[Path(entry.name).stem].scheme
                assert ((scheme,) if scheme else ()) == entry.schemes


class KeptScaledLife(ScaledLife, KeptLife):
    """The same from kept sums, without reading what stays."""


class TestScaledLife(ScaledLife.TestCase):
    """Any sequence of changes gives the bytes of one average of what remains."""

    settings = settings(max_examples=5, stateful_step_count=7, deadline=None, derandomize=True)


class TestKeptScaledLife(KeptScaledLife.TestCase):
    """The same from kept sums."""

    settings = settings(max_examples=5, stateful_step_count=7, deadline=None, derandomize=True)
