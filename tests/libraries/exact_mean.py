"""The mean of torch tensors in whole numbers, rounded once: what a soup must hold, bit for bit.

Rule 1: no floating-point operation decides anything. torch itself would round twice on the way from
float64 to the narrow dtypes, since it goes by float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import copysign, ldexp

import torch

# bits of the significand, the hidden one included, and exponent of the smallest subnormal: IEEE
# 754-2019, and the OCP 8-bit floating point specification (OFP8)
FORMATS = {
    torch.float64: (53, -1074),
    torch.float32: (24, -149),
    torch.float16: (11, -24),
    torch.bfloat16: (8, -133),
    torch.float8_e4m3fn: (4, -9),
    torch.float8_e5m2: (3, -16),
}
SCALE = 1074
"""Every finite float64 is a whole number of 2**-1074."""


def mean(tensors: Sequence[torch.Tensor], dtype: torch.dtype | None = None) -> torch.Tensor:
    """The exact mean of tensors of one shape, in `dtype` or else their own."""
    dtype = dtype or tensors[0].dtype
    columns = zip(*(tensor.double().flatten().tolist() for tensor in tensors), strict=True)
    means = [
        _rounded(sum(map(_whole, column)), len(tensors), *FORMATS[dtype]) for column in columns
    ]
    # each is a value of the dtype by now, so no conversion on the way rounds
    return torch.tensor(means, dtype=torch.float64).to(dtype).reshape(tensors[0].shape)


def _whole(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator << (SCALE + 1 - denominator.bit_length())


def _rounded(total: int, count: int, precision: int, quantum: int) -> float:
    """`total / count * 2**-SCALE` to nearest, ties to even; a total of zero is +0."""
    numerator, denominator = abs(total), count << SCALE
    if not numerator:
        return 0.0
    exponent = numerator.bit_length() - denominator.bit_length()
    # one too high if the leading digits of the numerator are the smaller ones
    exponent -= numerator << max(-exponent, 0) < denominator << max(exponent, 0)
    step = max(exponent - precision + 1, quantum)
    divisor = denominator << max(step, 0)
    digits, rest = divmod(numerator << max(-step, 0), divisor)
    digits += 2 * rest > divisor or (2 * rest == divisor and digits % 2)
    return copysign(ldexp(digits, step), -1 if total < 0 else 1)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor, by which -0 and +0 differ and NaN equals NaN."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def require_mean(
    found: Mapping[str, torch.Tensor], ingredients: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Assert that every tensor found is the exact mean of the ingredients' tensors of its name."""
    assert found.keys() == ingredients[0].keys()
    assert found
    for name, tensor in found.items():
        expected = mean([ingredient[name] for ingredient in ingredients])
        assert (expected.dtype, expected.shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(bits(expected), bits(tensor)), name
