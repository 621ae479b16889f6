"""The named blocks of a UNet are those that diffusers builds it of."""

from __future__ import annotations

import pytest
from diffusers import UNet2DConditionModel
from torch import device

from soupctl.merge.blocks.families import named_blocks
from soupctl.merge.blocks.resolve import CLASSIC


@pytest.mark.parametrize(
    ("levels", "family", "more"),
    [
        (4, "SD 1.x or 2.x", {}),
        (3, "SDXL", {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}),
    ],
)
def test_every_tensor_of_a_unet_of_diffusers_is_in_one_named_block(levels, family, more):
    cross = [f"CrossAttn{way}Block2D" for way in ("Down", "Up")]
    with device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32,) * levels,
            cross_attention_dim=8,
            down_block_types=(cross[0],) * levels,
            up_block_types=(cross[1],) * levels,
            attention_head_dim=8,
            projection_class_embeddings_input_dim=64 if more else None,
            **more,
        )
    names = set(unet.state_dict())
    known = named_blocks(names)

    assert known is not None
    assert family == known.family
    begins = [glob[:-1] for globs in known.globs.values() for glob in globs]
    assert {1} == {sum(name.startswith(each) for each in begins) for name in names}
    assert set(CLASSIC[26 if levels == 4 else 20]) - {"BASE"} == set(known.globs) - {"EMB"}
