"""The smallest bases that prompt banks can be attached to, and what is put into them.

Rule 1: every parameter is drawn anew from the seed, or the blocks of a new DiT would do nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tiny_models
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
)

from soupctl.banks.bank import PromptBank
from soupctl.banks.blocks import describe_base
from soupctl.banks.config import UNETS, BankConfig, GateInput, GateKind
from soupctl.diffusion.families import flux as flux_family

torch.set_num_threads(1)

CLASSES = 5
POOLED = 5
BATCH = 3


def drawn(model: Any, seed: int) -> Any:
    return tiny_models.drawn(model, seed, size=1 / 4)


def dit(seed: int = 1, layers: int = 3, classes: int = CLASSES) -> Any:
    model = tiny_models.dit(
        in_channels=2,
        out_channels=4,
        num_layers=layers,
        sample_size=8,
        num_embeds_ada_norm=classes,
        norm_num_groups=2,
    )
    return drawn(model, seed)


UNET = {
    "sample_size": 8,
    "in_channels": 2,
    "out_channels": 2,
    "block_out_channels": (4, 8),
    "norm_num_groups": 2,
}


def class_unet(seed: int = 1, classes: int | None = CLASSES + 1) -> Any:
    return drawn(tiny_models.unet(**UNET, num_class_embeds=classes), seed)


def text_unet(seed: int = 1) -> Any:
    return drawn(tiny_models.text_unet(**UNET, cross_attention_dim=6, attention_head_dim=2), seed)


def xl_unet(seed: int = 1) -> Any:
    told = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": POOLED + 6 * 4,
    }
    model = tiny_models.text_unet(**UNET, **told, cross_attention_dim=6, attention_head_dim=2)
    return drawn(model, seed)


def sd3(seed: int = 1) -> Any:
    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=2,
        out_channels=2,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=6,
        caption_projection_dim=8,
        pooled_projection_dim=POOLED,
        pos_embed_max_size=8,
        # as in SD 3.5 medium
        dual_attention_layers=(0,),
    )
    return drawn(model, seed)


def flux(seed: int = 1) -> Any:
    model = FluxTransformer2DModel(
        in_channels=8,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=1,
        joint_attention_dim=6,
        pooled_projection_dim=POOLED,
        guidance_embeds=True,
        axes_dims_rope=(2, 2, 4),
    )
    return drawn(model, seed)


BUILDERS = {
    "dit": dit,
    "class_unet": class_unet,
    "text_unet": text_unet,
    "xl_unet": xl_unet,
    "sd3": sd3,
    "flux": flux,
}

OPTIONS = [
    {},
    {"gate_input": GateInput.TIME_AND_CLASS, "noisy": True},
    {"topk": 0.5},
    {"gate": GateKind.MIXTURE, "num_prompts": 3},
]
"""Banks of every kind that is added to a block's input."""
EVERY_WAY = [(name, options) for name in BUILDERS if name != "xl_unet" for options in OPTIONS]
# its embedding of time is the only difference to the other UNets
EVERY_WAY += [("xl_unet", options) for options in OPTIONS[:2]]
# prompts go before the sequence of a transformer alone
EVERY_WAY.append(("dit", {"prepended": 2}))


def inputs(model: Any, timesteps: tuple[int, ...] = (3, 250, 999), seed: int = 7) -> dict[str, Any]:
    """Arguments of a forward pass: a batch with a class, or a text, each."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(len(timesteps), 2, 8, 8, generator=generator)
    times = torch.tensor(timesteps)
    labels = torch.arange(len(timesteps)) % CLASSES
    text = torch.randn(len(timesteps), 4, 6, generator=generator)
    pooled = torch.randn(len(timesteps), POOLED, generator=generator)
    match type(model).__name__:
        case "DiTTransformer2DModel":
            return {"hidden_states": sample, "timestep": times, "class_labels": labels}
        case "UNet2DModel":
            return {"sample": sample, "timestep": times, "class_labels": labels}
        case "SD3Transformer2DModel":
            texts = {"encoder_hidden_states": text, "pooled_projections": pooled}
            return {"hidden_states": sample, "timestep": times, **texts}
        case "FluxTransformer2DModel":
            return {
                "hidden_states": flux_family.pack(sample),
                "timestep": times / 1000,
                "guidance": torch.ones(len(timesteps)),
                "img_ids": flux_family.positions(sample, 4, 4),
                "txt_ids": torch.zeros(4, 3),
                "encoder_hidden_states": text,
                "pooled_projections": pooled,
            }
        case _:
            found = {"sample": sample, "timestep": times, "encoder_hidden_states": text}
            if model.config.addition_embed_type is not None:
                sizes = torch.full((len(timesteps), 6), 8.0)
                found["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
            return found


def output(model: Any, **changes: Any) -> torch.Tensor:
    """What the model says to the usual inputs."""
    return output_of(model, model, **changes)


def output_of(run: Any, model: Any, **changes: Any) -> torch.Tensor:
    """What the model says if it is called by way of `run`."""
    return run(**{**inputs(model), **changes}).sample


def zero_bank(model: Any, blocks: int | None = None, **options: Any) -> PromptBank:
    """A new bank for the first so many blocks, or all of them."""
    base = describe_base(model, sample_size=(8, 8))
    base = replace(base, sites=base.sites[:blocks])
    if base.kind in UNETS and "gate" not in options:
        options = {"gate_grid": 4, **options}
    return PromptBank(BankConfig(base, **options))


def filled_bank(model: Any, seed: int = 11, **options: Any) -> PromptBank:
    """A bank as if it had been trained: every number drawn from the seed."""
    bank = zero_bank(model, **options)
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(bank.named_parameters()):
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return bank


def noise_for(bank: PromptBank, seed: int = 5) -> dict[str, torch.Tensor]:
    """Standard normal numbers for every block and sample."""
    generator = torch.Generator().manual_seed(seed)
    return {
        site.name: torch.randn(BATCH, bank.config.rows(site), generator=generator)
        for site in bank.config.base.sites
    }


def same_bits(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether two tensors are equal to the bit, the sign of zero included."""
    return one.shape == two.shape and torch.equal(one.view(torch.int32), two.view(torch.int32))


def dit_pipeline() -> Any:
    """A pipeline, which has 1000 classes whatever its model has."""
    vae = AutoencoderKL(
        latent_channels=2,
        block_out_channels=(4,),
        norm_num_groups=2,
        sample_size=8,
    )
    return DiTPipeline(dit(classes=1000), drawn(vae, 2), DDIMScheduler())


def unet_pipeline() -> Any:
    return DDPMPipeline(class_unet(classes=None), DDPMScheduler())


def pictures(pipeline: Any) -> np.ndarray:
    """What a pipeline draws in two steps from a seed."""
    pipeline.set_progress_bar_config(disable=True)
    words = {"class_labels": [1, 2]} if isinstance(pipeline, DiTPipeline) else {"batch_size": 2}
    generator = torch.Generator().manual_seed(3)
    drawing = pipeline(num_inference_steps=2, generator=generator, output_type="np", **words)
    return drawing.images
