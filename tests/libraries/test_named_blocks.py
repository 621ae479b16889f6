"""The named blocks of a model are those that diffusers builds it of."""

from __future__ import annotations

from fnmatch import fnmatchcase

import diffusers
import pytest
from diffusers import UNet2DConditionModel
from tiny_transformers import KINDS, drawn
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


@pytest.mark.parametrize(
    ("model", "family", "count", "options"),
    [
        ("FluxTransformer2DModel", "Flux", 4, {"num_layers": 1, "num_single_layers": 1}),
        ("Flux2Transformer2DModel", "Flux.2", 5, {"num_layers": 1, "num_single_layers": 1}),
        (
            *("AuraFlowTransformer2DModel", "AuraFlow", 4),
            {"num_mmdit_layers": 1, "num_single_dit_layers": 1},
        ),
        (
            *("HunyuanVideoTransformer3DModel", "HunyuanVideo or HunyuanImage", 4),
            {"num_layers": 1, "num_single_layers": 1},
        ),
        ("Lumina2Transformer2DModel", "Lumina 2", 5, {"num_layers": 1}),
        ("ZImageTransformer2DModel", "Z-Image", 5, {"n_layers": 1}),
        ("WanTransformer3DModel", "Wan", 3, {"num_layers": 1}),
        ("WanVACETransformer3DModel", "Wan", 4, {"num_layers": 1, "vace_layers": [0]}),
        ("QwenImageTransformer2DModel", "Qwen-Image", 3, {"num_layers": 1}),
        ("SD3Transformer2DModel", "SD 3", 3, {"num_layers": 1}),
    ],
)
def test_every_tensor_of_a_transformer_of_diffusers_is_in_one_named_block(
    model, family, count, options
):
    with device("meta"):
        transformer = getattr(diffusers, model)(**options)
    names = set(transformer.state_dict())
    known = named_blocks(names)

    assert known is not None
    assert (family, count) == (known.family, len(known.globs))
    globs = [glob for globs in known.globs.values() for glob in globs]
    assert {1} == {sum(fnmatchcase(name, glob) for glob in globs) for name in names}


# the blocks of LTX have no names
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "LTX"])
def test_every_tensor_of_a_transformer_of_its_authors_is_in_one_named_block(kind):
    names = set(drawn(kind))
    known = named_blocks(names)

    assert known is not None
    assert known.family.startswith(kind)
    globs = [glob for globs in known.globs.values() for glob in globs]
    assert {1} == {sum(fnmatchcase(name, glob) for glob in globs) for name in names}
