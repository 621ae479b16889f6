"""A soup is what torch's numbers average to in exact arithmetic, rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("torch")

import safetensors.torch
import torch
from exact_mean import FORMATS, bits, mean

COUNT = 2000


def average_of(average, folder: Path, tensors: Sequence[torch.Tensor], *words: str) -> torch.Tensor:
    paths = [folder / f"{number}.st" for number in range(len(tensors))]
    for path, tensor in zip(paths, tensors, strict=True):
        safetensors.torch.save_file({"weight": tensor}, path)
    average(*paths, *words, "-o", folder / "soup.st")
    return safetensors.torch.load_file(folder / "soup.st")["weight"]


def weights_like(dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Normally distributed, as weights are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COUNT, generator=generator, dtype=torch.float64).to(dtype)


def any_finite(dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Every exponent and sign alike, subnormals among them."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(256, (COUNT * dtype.itemsize,), generator=generator, dtype=torch.uint8)
    drawn = raw.view(dtype)
    return torch.where(drawn.double().isfinite(), drawn.double(), 1.0).to(dtype)


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("draw", [weights_like, any_finite])
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_a_soup_is_the_exact_mean_rounded_once(average, tmp_path, dtype, draw, count):
    tensors = [draw(dtype, seed) for seed in range(count)]

    found = average_of(average, tmp_path, tensors)
    expected = mean(tensors)
    assert dtype == found.dtype
    assert torch.equal(bits(expected), bits(found))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_torch_agrees_where_its_float64_is_exact(average, tmp_path, dtype):
    # sums and halves of such multiples are exact in float64, and fit in float32, by which torch
    # goes to the narrow dtypes
    steps = 2.0**-8
    tensors = [(weights_like(dtype, seed).double() / steps).round() * steps for seed in (1, 2)]
    tensors = [tensor.to(dtype) for tensor in tensors]

    expected = torch.stack([tensor.double() for tensor in tensors]).mean(0).to(dtype)
    assert torch.equal(expected, average_of(average, tmp_path, tensors))


def test_a_soup_is_rounded_once_where_torch_rounds_twice(average, tmp_path):
    # the mean is a little above 2049, which lies halfway between two numbers of fp16
    values = [4100.0, 2047.0, 2.0**-24]
    tensors = [torch.tensor([value], dtype=torch.float16) for value in values]

    assert sum(map(Fraction, values)) / 3 > 2049
    assert 2048 == torch.stack(tensors).double().mean(0).half().item()
    assert 2050 == average_of(average, tmp_path, tensors).item()


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_the_dtype_asked_for_is_rounded_to_at_once(average, tmp_path, dtype):
    tensors = [weights_like(torch.float64, seed) for seed in (1, 2, 3)]
    name = str(dtype).removeprefix("torch.")

    found = average_of(average, tmp_path, tensors, "--dtype", SPELLED.get(name, name))
    assert torch.equal(bits(mean(tensors, dtype)), bits(found))


SPELLED = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
