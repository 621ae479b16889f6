"""What a bank is not attached to, or not used with."""

from __future__ import annotations

from contextlib import nullcontext

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.errors import MismatchError


def test_another_size_of_image_is_refused_naming_the_block():
    base = bases.class_unet()
    sample = torch.randn(3, 2, 16, 16)
    refused = pytest.raises(MismatchError, match=r"down_blocks\.0: .*\[4, 8, 8\].*\[4, 16, 16\]")
    with attach(base, bases.zero_bank(base)), refused:
        bases.output(base, sample=sample)


@pytest.mark.parametrize(
    ("other", "allowed", "problem"),
    [
        (bases.class_unet(), False, "class DiTTransformer2DModel, but the base has UNet2DModel"),
        (bases.dit(layers=2), False, "transformer_blocks.2: the base has no such block"),
        (bases.dit(layers=4), False, "different config"),
        (bases.dit(layers=4), True, None),
    ],
)
def test_a_bank_is_attached_to_a_base_of_its_kind_alone(other, allowed, problem):
    bank = bases.zero_bank(bases.dit())
    expected = nullcontext() if problem is None else pytest.raises(MismatchError, match=problem)

    with expected, attach(other, bank, allow_base_mismatch=allowed):
        bases.output(other)
