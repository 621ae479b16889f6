"""The smallest pipelines and language models that the libraries will still build and save.

Rule 1: every parameter is drawn anew from the seed, or biases and norms would be equal in all.
"""

from __future__ import annotations

import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tiny_models import autoencoder, dit, drawn, text_unet, unet
from tiny_texts import quieten, tokenizer
from tiny_texts import text_encoder as plain_encoder
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

__all__ = ["quieten"]

LETTERS = "abcdefgh"


def text_encoder(seed: int) -> CLIPTextModel:
    return drawn(plain_encoder(tokenizer(LETTERS), width=8), seed)


def conditional_unet(seed: int, cross_attention_dim: int = 8) -> UNet2DConditionModel:
    return drawn(text_unet(cross_attention_dim=cross_attention_dim), seed)


def stable_diffusion_pipeline(seed: int) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        unet=conditional_unet(seed),
        vae=drawn(autoencoder(), seed + 10),
        text_encoder=text_encoder(seed + 20),
        tokenizer=tokenizer(LETTERS),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def half_pipeline(seed: int) -> StableDiffusionPipeline:
    return stable_diffusion_pipeline(seed).to(torch.float16)


def dit_pipeline(seed: int) -> DiTPipeline:
    return DiTPipeline(
        transformer=drawn(dit(num_embeds_ada_norm=1000), seed),
        vae=drawn(autoencoder(), seed + 10),
        scheduler=DDIMScheduler(),
    )


def ddpm_pipeline(seed: int) -> DDPMPipeline:
    return DDPMPipeline(drawn(unet(sample_size=4), seed), DDPMScheduler())


def llama(seed: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return drawn(LlamaForCausalLM(config), seed)


def tied_gpt2(seed: int) -> GPT2LMHeadModel:
    """A model whose output layer is its embedding, and is saved once."""
    config = GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=8)
    return drawn(GPT2LMHeadModel(config), seed)


def bert(seed: int) -> BertModel:
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    return drawn(BertModel(config), seed)
