"""Tiny models in the naming of their first authors, and what diffusers makes of them."""

import numpy as np
import pytest

from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor

NARROW = 8
FLUX_WIDTH = 3072
"""What diffusers takes every Flux to have; of its widest matrices one column is drawn."""


def drawn(shapes):
    """A model of random numbers with a bias beside each weight."""
    rng = np.random.default_rng(0)
    model = {}
    for name, shape in shapes.items():
        model[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        model[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    return model


def headers(model, prefix=""):
    shapes = {
        name: (len(array), FLUX_WIDTH) if "linear1.weight" in name else array.shape
        for name, array in model.items()
    }
    return {
        prefix + name: Tensor(prefix + name, DType.F32, shape, 0, 0)
        for name, shape in shapes.items()
    }


def unet_shapes(*, is_linear=False):
    """The modules of a UNet of two levels and two resnets a level, as CompVis builds them."""
    shapes = {"time_embed.0": (8, 4), "time_embed.2": (8, 8), "input_blocks.0.0": (4, 4, 3, 3)}
    shapes["out.0"], shapes["out.2"] = (4,), (4, 4, 3, 3)

    def resnet(block):
        shapes[f"{block}.in_layers.0"] = shapes[f"{block}.out_layers.0"] = (4,)
        shapes[f"{block}.in_layers.2"] = shapes[f"{block}.out_layers.3"] = (4, 4, 3, 3)
        shapes[f"{block}.emb_layers.1"] = (4, 8)
        shapes[f"{block}.skip_connection"] = (4, 4, 1, 1)

    def attention(block):
        shapes[f"{block}.norm"] = (4,)
        for name in ("proj_in", "proj_out"):
            shapes[f"{block}.{name}"] = (4, 4) if is_linear else (4, 4, 1, 1)
        inner = f"{block}.transformer_blocks.0"
        for name in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_k"):
            shapes[f"{inner}.{name}"] = (4, 4)
        shapes[f"{inner}.ff.net.0.proj"], shapes[f"{inner}.ff.net.2"] = (32, 4), (4, 16)

    for number in (1, 2, 4, 5):
        resnet(f"input_blocks.{number}.0")
    for number in (1, 2):
        attention(f"input_blocks.{number}.1")
    shapes["input_blocks.3.0.op"] = (4, 4, 3, 3)
    resnet("middle_block.0")
    attention("middle_block.1")
    resnet("middle_block.2")
    for number in range(6):
        resnet(f"output_blocks.{number}.0")
    shapes["output_blocks.2.1.conv"] = (4, 4, 3, 3)
    for number in (3, 4, 5):
        attention(f"output_blocks.{number}.1")
    return shapes


def flux_shapes():
    """The modules of a Flux of two blocks of each sort, as its authors build them."""
    shapes = {"img_in": (NARROW, 4), "txt_in": (NARROW, 6)}
    for name in ("time_in", "vector_in", "guidance_in"):
        shapes[f"{name}.in_layer"] = shapes[f"{name}.out_layer"] = (NARROW, NARROW)
    for number in range(2):
        for stream in ("img", "txt"):
            block = f"double_blocks.{number}.{stream}"
            shapes[f"{block}_mod.lin"] = (6 * NARROW, NARROW)
            shapes[f"{block}_attn.qkv"] = (3 * NARROW, NARROW)
            shapes[f"{block}_attn.proj"] = (NARROW, NARROW)
            shapes[f"{block}_mlp.0"], shapes[f"{block}_mlp.2"] = (32, NARROW), (NARROW, 32)
        block = f"single_blocks.{number}"
        shapes[f"{block}.linear1"] = (7 * FLUX_WIDTH, 1)
        shapes[f"{block}.linear2"] = (NARROW, NARROW + 32)
        shapes[f"{block}.modulation.lin"] = (3 * NARROW, NARROW)
    shapes["final_layer.linear"] = (4, NARROW)
    shapes["final_layer.adaLN_modulation.1"] = (2 * NARROW, NARROW)
    return shapes


def sd3_shapes():
    """The modules of an SD3 of two blocks, the first with a second attention."""
    shapes = {"x_embedder.proj": (NARROW, 4, 2, 2), "context_embedder": (NARROW, 6)}
    for name in ("t_embedder.mlp.0", "t_embedder.mlp.2", "y_embedder.mlp.0", "y_embedder.mlp.2"):
        shapes[name] = (NARROW, NARROW)
    for number in range(2):
        for stream in ("x_block", "context_block"):
            block = f"joint_blocks.{number}.{stream}"
            shapes[f"{block}.attn.qkv"] = (3 * NARROW, NARROW)
            is_last = number == 1 and stream == "context_block"
            shapes[f"{block}.adaLN_modulation.1"] = ((2 if is_last else 6) * NARROW, NARROW)
            if not is_last:
                shapes[f"{block}.attn.proj"] = (NARROW, NARROW)
                shapes[f"{block}.mlp.fc1"], shapes[f"{block}.mlp.fc2"] = (32, NARROW), (NARROW, 32)
    shapes["joint_blocks.0.x_block.attn2.qkv"] = (3 * NARROW, NARROW)
    shapes["joint_blocks.0.x_block.attn2.proj"] = (NARROW, NARROW)
    shapes["final_layer.linear"] = (4, NARROW)
    shapes["final_layer.adaLN_modulation.1"] = (2 * NARROW, NARROW)
    return shapes


def converted(kind, original):
    """The model in the naming of diffusers, by diffusers."""
    torch = pytest.importorskip("torch")
    utils = pytest.importorskip("diffusers.loaders.single_file_utils")
    model = {name: torch.from_numpy(array) for name, array in original.items()}
    if kind == "unet":
        renamed = {f"model.diffusion_model.{name}": tensor for name, tensor in model.items()}
        found = utils.convert_ldm_unet_checkpoint(renamed, {"layers_per_block": 2})
    elif kind == "flux":
        for name in ("query_norm", "key_norm"):
            for number in range(2):
                single = f"single_blocks.{number}.norm.{name}.scale"
                model[single] = torch.ones(4)
                for stream in ("img", "txt"):
                    model[f"double_blocks.{number}.{stream}_attn.norm.{name}.scale"] = torch.ones(4)
        found = utils.convert_flux_transformer_checkpoint_to_diffusers(model)
    else:
        model["pos_embed"] = torch.zeros(1, 4, 8)
        found = utils.convert_sd3_transformer_checkpoint_to_diffusers(model)
    return {name: tensor.numpy() for name, tensor in found.items()}


MODELS = {"unet": unet_shapes, "flux": flux_shapes, "sd3": sd3_shapes}
