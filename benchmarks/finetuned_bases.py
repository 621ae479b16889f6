"""The bases that finetuned.py trains, and for each family the shortest loop that trains the same.

Rule 1: a loop by hand does what diffusers' script for the family does with each batch; nothing of
soupctl is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.nn import functional
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

LR = 1e-4
WIDTH = 64
"""Features of each text encoder."""

BatchLoss = Callable[[torch.Tensor, list[str]], torch.Tensor]
"""The loss of pixels [B, 3, H, W] in [-1, 1] with their captions."""


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """The size of a base, the images of a step, and the functions of its family."""

    save: Callable[[TrainingCase, Path], None]
    by_hand: Callable[[Path, Path, int], Iterator[torch.Tensor]]
    channels: tuple[int, int]
    pixels: int
    batch: int


def _tokenizer() -> Any:
    letters = [chr(97 + number) + end for number in range(26) for end in ("", "</w>")]
    tokens = [*letters, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[],
        model_max_length=77,
    )


def _encoder(kind: type) -> Any:
    tokenizer = _tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return kind(config)


def _autoencoder(case: TrainingCase) -> Any:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=case.pixels,
    )


def _unet(case: TrainingCase, **more: Any) -> Any:
    return UNet2DConditionModel(
        sample_size=case.pixels // 2,
        layers_per_block=1,
        block_out_channels=case.channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
        **more,
    )


def save_text_base(case: TrainingCase, folder: Path) -> None:
    """A Stable Diffusion pipeline of the case's size with weights drawn at random."""
    torch.manual_seed(0)
    StableDiffusionPipeline(
        unet=_unet(case, cross_attention_dim=WIDTH),
        vae=_autoencoder(case),
        text_encoder=_encoder(CLIPTextModel),
        tokenizer=_tokenizer(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_sdxl_base(case: TrainingCase, folder: Path) -> None:
    """A pipeline of Stable Diffusion XL of the case's size with weights drawn at random."""
    torch.manual_seed(0)
    unet = _unet(
        case,
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=6 * 32 + WIDTH,
    )
    StableDiffusionXLPipeline(
        unet=unet,
        vae=_autoencoder(case),
        text_encoder=_encoder(CLIPTextModel),
        text_encoder_2=_encoder(CLIPTextModelWithProjection),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        add_watermarker=False,
    ).save_pretrained(folder)


def save_flow_base(case: TrainingCase, folder: Path) -> None:
    """A pipeline of Stable Diffusion 3 without T5 of the case's size, with random weights."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=case.pixels // 2,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=case.channels[0],
        num_attention_heads=case.channels[1] // case.channels[0],
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=case.channels[1],
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=case.pixels // 4,
    )
    StableDiffusion3Pipeline(
        transformer=transformer,
        vae=_autoencoder(case),
        text_encoder=_encoder(CLIPTextModelWithProjection),
        text_encoder_2=_encoder(CLIPTextModelWithProjection),
        text_encoder_3=None,
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        tokenizer_3=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)


def _ids(tokenizer: Any, captions: list[str]) -> torch.Tensor:
    found = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return found.input_ids


def _latents(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    return vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor


def text_loss(pipeline: Any) -> BatchLoss:
    """The loss of Stable Diffusion: the error of the predicted noise."""
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)

    def loss(pixels: torch.Tensor, captions: list[str]) -> torch.Tensor:
        with torch.no_grad():
            latents = _latents(pipeline.vae, pixels)
            text = pipeline.text_encoder(_ids(pipeline.tokenizer, captions))[0]
        noise, times = torch.randn_like(latents), torch.randint(0, 1000, (len(captions),))
        noisy = scheduler.add_noise(latents, noise, times)
        return functional.mse_loss(pipeline.unet(noisy, times, text).sample, noise)

    return loss


def _two_texts(pipeline: Any, captions: list[str]) -> tuple[torch.Tensor, list[Any]]:
    """The hidden states before the last layer of both encoders, and the encoders' outputs."""
    found = [
        encoder(_ids(tokenizer, captions), output_hidden_states=True)
        for encoder, tokenizer in (
            (pipeline.text_encoder, pipeline.tokenizer),
            (pipeline.text_encoder_2, pipeline.tokenizer_2),
        )
    ]
    return torch.cat([each.hidden_states[-2] for each in found], dim=-1), found


def sdxl_loss(pipeline: Any) -> BatchLoss:
    """The loss of Stable Diffusion XL, with pooled embeddings and the sizes of images."""
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)

    def loss(pixels: torch.Tensor, captions: list[str]) -> torch.Tensor:
        height, width = pixels.shape[2:]
        sizes = torch.tensor([[height, width, 0, 0, height, width]] * len(captions)).float()
        with torch.no_grad():
            latents = _latents(pipeline.vae, pixels)
            text, found = _two_texts(pipeline, captions)
        added = {"text_embeds": found[1].text_embeds, "time_ids": sizes}
        noise, times = torch.randn_like(latents), torch.randint(0, 1000, (len(captions),))
        noisy = scheduler.add_noise(latents, noise, times)
        predicted = pipeline.unet(noisy, times, text, added_cond_kwargs=added).sample
        return functional.mse_loss(predicted, noise)

    return loss


def flow_loss(pipeline: Any) -> BatchLoss:
    """The loss of flow matching: the error of the predicted difference of noise and latents."""
    scheduler = pipeline.scheduler
    shares, times = scheduler.sigmas.clone(), scheduler.timesteps.clone()

    def loss(pixels: torch.Tensor, captions: list[str]) -> torch.Tensor:
        with torch.no_grad():
            latents = _latents(pipeline.vae, pixels)
            text, found = _two_texts(pipeline, captions)
            text = torch.cat([text, text.new_zeros(len(text), 256, text.shape[-1])], dim=1)
            pooled = torch.cat([each.text_embeds for each in found], dim=-1)
        noise = torch.randn_like(latents)
        drawn = torch.randint(0, len(times), (len(captions),))
        share = shares[drawn].view(-1, 1, 1, 1)
        noisy = (1 - share) * latents + share * noise
        predicted = pipeline.transformer(
            hidden_states=noisy,
            timestep=times[drawn],
            encoder_hidden_states=text,
            pooled_projections=pooled,
        ).sample
        return functional.mse_loss(predicted, noise - latents)

    return loss


def _loop(
    make_loss: Callable[[Any], BatchLoss],
) -> Callable[[Path, Path, int], Iterator[torch.Tensor]]:
    """The shortest loop with that loss: the loss of each step."""

    def by_hand(base: Path, data: Path, batch: int) -> Iterator[torch.Tensor]:
        listing = json.loads((base / "model_index.json").read_text())
        absent = {name: None for name, kind in listing.items() if kind == [None, None]}
        pipeline = DiffusionPipeline.from_pretrained(base, local_files_only=True, **absent)
        for model in pipeline.components.values():
            if isinstance(model, torch.nn.Module):
                model.requires_grad_(False)
        denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
        parameters = list(denoiser.requires_grad_(True).parameters())
        optimizer = torch.optim.AdamW(parameters, lr=LR)
        ema = EMAModel(parameters, decay=0.9999, foreach=True)
        loss_of, paths = make_loss(pipeline), sorted(data.glob("*.png"))
        while True:
            order = torch.randperm(len(paths)).tolist()
            for start in range(0, len(paths), batch):
                chosen = [paths[index] for index in order[start : start + batch]]
                arrays = [
                    np.asarray(Image.open(each).convert("RGB"), np.float32) for each in chosen
                ]
                pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
                loss = loss_of(pixels, [each.with_suffix(".txt").read_text() for each in chosen])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                ema.step(parameters)
                yield loss.detach()

    return by_hand


TEXT, SDXL, FLOW = map(_loop, (text_loss, sdxl_loss, flow_loss))
CASES = {
    "tiny": TrainingCase(save_text_base, TEXT, (8, 16), 16, 4),
    "small": TrainingCase(save_text_base, TEXT, (32, 64), 32, 4),
    "medium": TrainingCase(save_text_base, TEXT, (64, 128), 64, 4),
    "sdxl": TrainingCase(save_sdxl_base, SDXL, (32, 64), 32, 4),
    "flow": TrainingCase(save_flow_base, FLOW, (32, 128), 32, 4),
}
