"""Any mixture of kinds and names makes the soup that a reference in fractions makes, or none.

Rule 1: the reference knows what was drawn, not what soupctl finds.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from soupctl.errors import MismatchError
from soupctl.merge.average import Request, average

PREFIXES = ("", "", "module.", "_orig_mod.")
W = ("blocks.0.weight", "blocks.1.weight", "norm.weight")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
IDS, SCHEDULE, FACTOR = "embeddings.position_ids", "alphas_cumprod", "blocks.0.lora_A.weight"
NF4 = ("q.weight", "q.weight.absmax", "q.weight.quant_state.bitsandbytes__nf4")


@st.composite
def ingredients(draw: Any) -> tuple[list[dict[str, np.ndarray]], str]:
    """The arrays of two or three ingredients by their names in the first, and what must differ."""
    count = draw(st.integers(2, 3))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    extras = draw(st.sets(st.sampled_from(["tied", "ids", "schedule", "factor", "nf4"])))
    broken = draw(st.sampled_from(["", "", *sorted(extras - {"tied", "ids"})]))
    made = []
    for place in range(count):
        arrays = {name: random.normal(0, 1, (2, 3)).astype("f4") for name in W}
        last = place == count - 1 and broken
        if "tied" in extras:
            arrays[EMBEDDING] = random.normal(0, 1, (3, 2)).astype("f4")
            if place or draw(st.booleans()):
                arrays[HEAD] = arrays[EMBEDDING]
        if "ids" in extras and (place or draw(st.booleans())):
            arrays[IDS] = np.arange(4)[None]
        if "schedule" in extras:
            arrays[SCHEDULE] = np.array([1, np.inf, -0.0 if last != "schedule" else 1], "f4")
        if "factor" in extras:
            arrays[FACTOR] = np.full((2, 3), 1 + (last == "factor"), "f4")
        if "nf4" in extras:
            arrays |= {
                NF4[0]: np.arange(3, dtype="u1")[:, None],
                NF4[1]: np.full(1, 1 + (last == "nf4"), "f4"),
                NF4[2]: np.arange(5, dtype="u1"),
            }
        made.append(arrays)
    return made, broken


def mean(arrays: list[np.ndarray]) -> np.ndarray:
    """The mean of each element, as fractions, rounded once."""
    rows = [array.astype("f8").ravel() for array in arrays]
    exact = [
        sum(map(Fraction, column), Fraction(0)) / len(rows) for column in zip(*rows, strict=True)
    ]
    # a float64 quotient of such small sums is rounded to float32 as the fraction is
    return np.array([float(value) for value in exact]).astype("f4").reshape(arrays[0].shape)


def reference(made: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    every = {name for arrays in made for name in arrays}
    full = [{**arrays, HEAD: arrays[EMBEDDING]} if HEAD in every else arrays for arrays in made]
    return {
        name: mean([arrays[name] for arrays in full])
        if name in (*W, EMBEDDING, HEAD)
        else next(arrays[name] for arrays in full if name in arrays)
        for name in every
    }


@settings(max_examples=60)
@given(ingredients(), st.lists(st.sampled_from(PREFIXES), min_size=3, max_size=3))
def test_a_mixture_of_kinds_equals_the_reference_or_is_refused(drawn, prefixes):
    made, broken = drawn
    with TemporaryDirectory() as folder:
        paths = []
        for place, (arrays, prefix) in enumerate(zip(made, prefixes, strict=False)):
            paths.append(Path(folder, f"{place}.safetensors"))
            named = {prefix + name: array for name, array in arrays.items()}
            safetensors.numpy.save_file(named, paths[-1])
        request = Request(paths, Path(folder, "soup.safetensors"))
        try:
            average(request)
        except MismatchError:
            assert broken
            return
        found = safetensors.numpy.load_file(request.output)

    assert not broken
    expected = {prefixes[0] + name: array for name, array in reference(made).items()}
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        assert (array.dtype, array.tobytes()) == (found[name].dtype, found[name].tobytes())
