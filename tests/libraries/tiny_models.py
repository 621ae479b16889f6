"""The smallest models of every family that the libraries will still build, save, load and run.

Rule 1: every parameter is drawn anew from the seed, or biases and norms would be equal in all.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

LETTERS = "abcdefgh"


def quieten() -> None:
    """Keep the libraries from logging and from drawing progress bars."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def drawn(model: Any, seed: int) -> Any:
    """The model with all its parameters drawn from a normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        parameter.data.copy_(drawn / 8)
    return model.eval()


def tokenizer() -> CLIPTokenizer:
    tokens = [letter + end for letter in LETTERS for end in ("", "</w>")]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8)


def text_encoder(seed: int) -> CLIPTextModel:
    tokens = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    return drawn(CLIPTextModel(config), seed)


def autoencoder(seed: int) -> AutoencoderKL:
    model = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
        sample_size=8,
    )
    return drawn(model, seed)


def conditional_unet(seed: int, cross_attention_dim: int = 8) -> UNet2DConditionModel:
    model = UNet2DConditionModel(
        sample_size=4,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    return drawn(model, seed)


def stable_diffusion_pipeline(seed: int) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        unet=conditional_unet(seed),
        vae=autoencoder(seed + 10),
        text_encoder=text_encoder(seed + 20),
        tokenizer=tokenizer(),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def half_pipeline(seed: int) -> StableDiffusionPipeline:
    return stable_diffusion_pipeline(seed).to(torch.float16)


def dit_pipeline(seed: int) -> DiTPipeline:
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_num_groups=4,
    )
    return DiTPipeline(
        transformer=drawn(transformer, seed),
        vae=autoencoder(seed + 10),
        scheduler=DDIMScheduler(),
    )


def ddpm_pipeline(seed: int) -> DDPMPipeline:
    unet = UNet2DModel(
        sample_size=4,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    )
    return DDPMPipeline(drawn(unet, seed), DDPMScheduler())


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
