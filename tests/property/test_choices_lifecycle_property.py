"""Soups of unlike ingredients hold, after any changes, the mean of what remains.

The ingredients have prefixes, lack tensors and have fewer input channels; tensors are taken from
another file, and written in dtypes of their own.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from lives import NAMES, KeptLife, Life, names
from making import Raw, contents, save_raw

from soupctl.choices import OnMissing
from soupctl.engines.reference import decode, encode
from soupctl.format.dtypes import DType, narrowest

pytestmark = pytest.mark.timeout(900)

W, CONV, EXTRA, VAE = "mid.weight", "conv_in.weight", "extra.weight", "vae.weight"
ROWS = 2
NARROW, WIDE = 2, 3
"""Input channels of the convolutions."""
DTYPES = (DType.F16, DType.BF16, DType.F32)
PREFIXES = ("", "module.", "_orig_mod.")
DONOR = "donor"
FORMS = ((), (("*conv_in*", DType.F16), ("*", DType.F32)))
"""What --dtype-for may say."""


def packed(values: tuple[Fraction, ...], dtype: DType) -> bytes:
    codes = [encode(value, dtype) for value in values]
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes if code is not None)


@dataclass(frozen=True)
class Unlike:
    """One ingredient: its values by their names without the prefix, all in one dtype."""

    prefix: str
    dtype: DType
    values: dict[str, tuple[Fraction, ...]]

    @property
    def tensors(self) -> dict[str, Raw]:
        return {
            self.prefix + name: (self.dtype.value, shape_of(name, each), packed(each, self.dtype))
            for name, each in self.values.items()
        }


def shape_of(name: str, values: tuple[Fraction, ...]) -> tuple[int, ...]:
    return (ROWS, len(values) // ROWS, 1, 1) if name == CONV else (len(values),)


@st.composite
def unlike(draw: st.DrawFn, *, is_donor: bool = False) -> Unlike:
    dtype = draw(st.sampled_from(DTYPES))
    codes = st.integers(1, 2 ** (dtype.bits - 2)) | st.just(2 ** (dtype.bits - 2) - 1)

    def values(count: int) -> tuple[Fraction, ...]:
        found = draw(st.lists(codes, min_size=count, max_size=count))
        return tuple(Fraction(decode(code, dtype)) for code in found)

    held = {W: values(3), CONV: values(ROWS * draw(st.sampled_from((NARROW, WIDE))))}
    if draw(st.booleans()):
        held[EXTRA] = values(2)
    if is_donor or draw(st.booleans()):
        held[VAE] = values(2)
    return Unlike(draw(st.sampled_from(PREFIXES)), dtype, held)


pool = st.lists(
    unlike(), min_size=len(NAMES), max_size=len(NAMES), unique_by=lambda each: each.values[W]
)


class ChoiceLife(Life):
    """A soup of such ingredients, with a VAE that is not averaged."""

    unlike: dict[str, Unlike]

    @initialize(
        found=pool,
        donor=unlike(is_donor=True),
        first=names,
        on_missing=st.sampled_from((OnMissing.KEEP, OnMissing.DROP)),
        dtype_for=st.sampled_from(FORMS),
    )
    def begin(
        self,
        found: list[Unlike],
        donor: Unlike,
        first: str,
        on_missing: OnMissing,
        dtype_for: tuple[tuple[str, DType], ...],
    ) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.unlike = {**dict(zip(NAMES, found, strict=True)), DONOR: donor}
        (self.folder / "deep").mkdir()
        for name, each in self.unlike.items():
            save_raw(self.path(name), each.tensors)
        self.step = 0
        self.choices: dict[str, Any] = {
            "on_missing": on_missing,
            "dtype_for": dtype_for,
            "take": (("*vae*", self.path(DONOR)),),
            "pad": ("*conv_in*",),
        }
        self.held = {first: Fraction(1)}
        self.average(self.soup, self.path(first))

    def made(self) -> object:
        found = contents(self.soup)
        prefixes = {self.unlike[name].prefix for name in self.held}
        (prefix,) = {name.removesuffix(W) for name in found if name.endswith(W)}
        assert prefix in prefixes
        return {
            name.removeprefix(prefix): (dtype, shape, data)
            for name, (dtype, shape, data) in found.items()
        }

    def expected(self, held: dict[str, Fraction]) -> object:
        """The tensors that fractions make."""
        donor = self.unlike[DONOR]
        every = dict.fromkeys(chain(*(self.unlike[name].values for name in held)))
        found = {VAE: self.written(VAE, donor.values[VAE], {donor.dtype})}
        for tensor in [tensor for tensor in every if tensor != VAE]:
            some = {name: w for name, w in held.items() if tensor in self.unlike[name].values}
            if len(some) < len(held) and self.choices["on_missing"] is OnMissing.DROP:
                continue
            total = sum(some.values())
            widest = max(len(self.unlike[name].values[tensor]) for name in some)
            rows = [
                [value * weight / total for value in self.padded(name, tensor, widest)]
                for name, weight in some.items()
            ]
            mean = tuple(map(sum, zip(*rows, strict=True)))
            found[tensor] = self.written(tensor, mean, {self.unlike[name].dtype for name in some})
        return found

    def padded(self, name: str, tensor: str, widest: int) -> tuple[Fraction, ...]:
        values = self.unlike[name].values[tensor]
        if len(values) == widest:
            return values
        zeros = (Fraction(0),) * (WIDE - NARROW)
        return (*values[:NARROW], *zeros, *values[NARROW:], *zeros)

    def written(self, tensor: str, values: tuple[Fraction, ...], dtypes: set[DType]) -> object:
        asked = dict(self.choices["dtype_for"])
        out = asked.get("*conv_in*" if tensor == CONV else "*", narrowest(frozenset(dtypes)))
        return out.value, shape_of(tensor, values), packed(values, out)


class KeptChoiceLife(ChoiceLife, KeptLife):
    """The same from kept sums, without reading what stays but where the sum has not all."""

    def is_too_fine(self, before: Path, wanted: dict[str, Fraction]) -> bool:
        """Whether the sum, or that of an added soup, cannot tell what the change needs."""
        held, gone = [self.unlike[n] for n in self.held], self.held.keys() - wanted.keys()
        new = [self.unlike[name] for name in wanted.keys() - self.held.keys()]
        width = max(len(each.values[CONV]) for each in held)
        narrows = any(len(self.unlike[name].values[CONV]) == width for name in gone)
        widens = any(len(each.values[CONV]) > width for each in new)
        drops = bool(gone) and self.choices["on_missing"] is OnMissing.DROP
        (prefix,) = {n.removesuffix(W) for n in contents(before) if n.endswith(W)}
        renames = all(self.unlike[name].prefix != prefix for name in wanted)
        alike = {(EXTRA in each.values, len(each.values[CONV])) for each in (*held, *new)}
        changed = [self.unlike[n] for n, w in wanted.items() if w != self.held.get(n)]
        other_names = any(each.prefix != prefix for each in changed)
        adds_a_soup = not gone and (len(alike) > 1 or other_names)
        unread = narrows or widens or drops or renames or adds_a_soup
        return unread or super().is_too_fine(before, wanted)


class TestChoiceLife(ChoiceLife.TestCase):
    """Any sequence of changes gives the bytes of one average of what remains."""

    settings = settings(max_examples=8, stateful_step_count=8, deadline=None, derandomize=True)


class TestKeptChoiceLife(KeptChoiceLife.TestCase):
    """The same from kept sums."""

    settings = settings(max_examples=8, stateful_step_count=8, deadline=None, derandomize=True)
