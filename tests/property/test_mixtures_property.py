"""Any mixture of schemes, kinds, names and options makes the mean in fractions, or is refused.

Rule 1: the reference knows what was drawn, not what soupctl finds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from making import Raw, contents, save_raw
from revising import average

from soupctl.choices import OnMissing, Quantization
from soupctl.engines.reference import decode, encode
from soupctl.errors import MismatchError
from soupctl.format.dtypes import DType, narrowest

ROWS, COLUMNS = 4, 6
COUNT = ROWS * COLUMNS
E4M3, F32 = DType.F8_E4M3, DType.F32
PREFIXES = ("", "", "module.", "model.diffusion_model.")
LAYERS = ("blocks.0.q", "blocks.1.q")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
IDS, SCHEDULE, FACTOR = "embeddings.position_ids", "alphas_cumprod", "blocks.0.lora_A.weight"
ONCE = "blocks.2.q"
SCALES = {
    "tensor": ("scale_weight", (), (ROWS, COLUMNS)),
    "row": ("weight_scale", (ROWS, 1), (1, COLUMNS)),
    "block": ("weight_scale_inv", (2, 2), (2, 3)),
}
Values = list[Fraction]


@dataclass
class MixedIngredient:
    """One ingredient: its tensors as they are stored, and what the averaged ones stand for."""

    width: DType
    stored: dict[str, Raw] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=dict)

    def add_plain(self, name: str, values: Values) -> None:
        raw = packed(values, self.width)
        self.stored[name] = (self.width.value, (ROWS, COLUMNS), raw)
        step = self.width.bits // 8
        codes = (raw[place : place + step] for place in range(0, len(raw), step))
        self.values[name] = [
            Fraction(decode(int.from_bytes(code, "little"), self.width)) for code in codes
        ]

    def add_codes(self, layer: str, scheme: str, random: np.random.Generator) -> None:
        end, grid, (high, wide) = SCALES[scheme]
        codes = bytes(
            int(code)
            for code in random.integers(0, 127, COUNT) | 128 * random.integers(0, 2, COUNT)
        )
        scales = [Fraction(int(n), 2**30) for n in random.integers(1, 2**24, prod(grid))]
        self.stored[f"{layer}.weight"] = ("F8_E4M3", (ROWS, COLUMNS), codes)
        self.stored[f"{layer}.{end}"] = ("F32", grid, packed(scales, F32))
        across = -(-COLUMNS // wide)
        self.values[f"{layer}.weight"] = [
            Fraction(decode(code, E4M3))
            * scales[place // COLUMNS // high * across + place % COLUMNS // wide]
            for place, code in enumerate(codes)
        ]


def packed(values: Values, dtype: DType) -> bytes:
    codes = [encode(value, dtype) for value in values]
    assert None not in codes
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes if code is not None)


@dataclass(frozen=True)
class Mixture:
    """What is averaged, how, and what must keep it from being averaged."""

    ingredients: list[MixedIngredient]
    weights: list[Fraction]
    prefixes: list[str]
    on_missing: OnMissing
    taken: int | None
    quantize: Quantization | None
    broken: str


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    count = draw(st.integers(2, 3))
    extras = draw(st.sets(st.sampled_from(["tied", "ids", "schedule", "factor", "nf4", "once"])))
    on_missing = draw(st.sampled_from(OnMissing))
    taken = draw(st.sampled_from([None, None, *range(count)]))
    prefixes = draw(st.lists(st.sampled_from(PREFIXES), min_size=count, max_size=count))
    if taken is not None or on_missing is not OnMissing.REFUSE:
        # what is no name of the first one could then be a tensor of its own
        prefixes = prefixes[:1] * count
    broken = draw(st.sampled_from(["", "", "", *sorted(extras & {"schedule", "factor", "nf4"})]))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    drawn = []
    for place in range(count):
        each = MixedIngredient(draw(st.sampled_from([DType.F16, DType.BF16])))
        layers = (*LAYERS, *([ONCE] if "once" in extras and place else []))
        for layer in layers:
            scheme = draw(st.sampled_from(["", *SCALES]))
            if scheme:
                each.add_codes(layer, scheme, random)
            else:
                each.add_plain(f"{layer}.weight", numbers(random))
        each.add_plain("norm.weight", numbers(random))
        if "tied" in extras:
            each.add_plain(EMBEDDING, numbers(random))
            each.values[HEAD] = each.values[EMBEDDING]
            if place or draw(st.booleans()):
                each.stored[HEAD] = each.stored[EMBEDDING]
        if "ids" in extras and (place or draw(st.booleans())):
            each.stored[IDS] = ("I64", (1, 4), bytes(32))
        each.stored |= fixed(extras, broken if place == count - 1 else "")
        drawn.append(each)
    kinds = st.sampled_from([Fraction(1), Fraction(2, 3), Fraction("0.123456789")])
    weights = draw(st.lists(kinds, min_size=count, max_size=count))
    if "once" in extras and on_missing is OnMissing.REFUSE:
        broken = broken or "once"
    quantize = draw(st.sampled_from([None, Quantization.FP8_SCALED]))
    return Mixture(drawn, weights, prefixes, on_missing, taken, quantize, broken)


def fixed(extras: set[str], differs: str) -> dict[str, Raw]:
    """Tensors that are copied, those of one kind with other values than elsewhere."""
    return {
        name: (
            dtype,
            shape,
            bytes([differs == what]) * (prod(shape) * (4 if dtype == "F32" else 1)),
        )
        for name, what, dtype, width, shape in (
            (SCHEDULE, "schedule", "F32", 4, (3,)),
            (FACTOR, "factor", "F32", 4, (2, 3)),
            ("packed.weight", "nf4", "U8", 1, (8, 1)),
            ("packed.weight.absmax", "nf4", "F32", 4, (2,)),
            ("packed.weight.quant_state.bitsandbytes__nf4", "nf4", "U8", 1, (8,)),
        )
        if what in extras
    }


def numbers(random: np.random.Generator) -> Values:
    return [Fraction(int(n), 1024) for n in random.integers(-(2**12), 2**12, COUNT)]


def reference(mixture: Mixture) -> dict[str, tuple[str, bytes]]:
    """Dtype and data of each tensor by its name without a prefix."""
    made: dict[str, tuple[str, bytes]] = {}
    pairs = list(zip(mixture.ingredients, mixture.weights, strict=True))
    has_head = any(HEAD in each.stored for each, _ in pairs)
    for name in dict.fromkeys(name for each, _ in pairs for name in each.values):
        holders = [(each, weight) for each, weight in pairs if name in each.values]
        is_taken = name.startswith("blocks.1.") and mixture.taken is not None
        if is_taken and mixture.taken is not None:
            holders = [pairs[mixture.taken]]
        elif len(holders) < len(pairs) and mixture.on_missing is OnMissing.DROP:
            continue
        if name == HEAD and not has_head:
            continue
        total = sum(weight for _, weight in holders)
        means = [
            sum((w * x for (_, w), x in zip(holders, column, strict=True)), Fraction(0)) / total
            for column in zip(*(each.values[name] for each, _ in holders), strict=True)
        ]
        if mixture.quantize and name.startswith("blocks.") and not is_taken:
            largest = max(map(abs, means))
            scale = np.float32(float(largest) / 448) if largest else np.float32(1)
            codes = packed([mean / Fraction(float(scale)) for mean in means], E4M3)
            made[name] = ("F8_E4M3", codes)
            made[name.replace(".weight", ".scale_weight")] = ("F32", scale.tobytes())
            made["scaled_fp8"] = ("F8_E4M3", bytes(2))
        else:
            out = narrowest(frozenset(each.width for each, _ in holders))
            made[name] = (out.value, packed(means, out))
    for each in mixture.ingredients:
        for name in (IDS, SCHEDULE, FACTOR, *(n for n in each.stored if n.startswith("packed."))):
            if name in each.stored:
                dtype, _, raw = each.stored[name]
                made.setdefault(name, (dtype, raw))
    return made


@settings(max_examples=60, deadline=None)
@given(mixtures())
def test_a_mixture_makes_the_mean_of_its_tensors_values_or_is_refused(mixture):
    with TemporaryDirectory() as folder:
        paths = [Path(folder, f"{place}.st") for place in range(len(mixture.ingredients))]
        for path, prefix, each in zip(paths, mixture.prefixes, mixture.ingredients, strict=True):
            save_raw(path, {prefix + name: raw for name, raw in each.stored.items()})
        first = mixture.prefixes[0]
        take = () if mixture.taken is None else ((f"{first}blocks.1.*", paths[mixture.taken]),)
        try:
            average(
                Path(folder, "soup.st"), *zip(paths, mixture.weights, strict=True),
                on_missing=mixture.on_missing, take=take, quantize=mixture.quantize,
            )  # fmt: skip
        except MismatchError:
            assert mixture.broken
            assert not Path(folder, "soup.st").exists()
            return
        found = contents(Path(folder, "soup.st"))

    assert not mixture.broken
    expected = {first + name: each for name, each in reference(mixture).items()}
    if "scaled_fp8" in reference(mixture) and not first.startswith("model."):
        expected["scaled_fp8"] = expected.pop(first + "scaled_fp8")
    assert expected == {name: (dtype, raw) for name, (dtype, _, raw) in found.items()}
