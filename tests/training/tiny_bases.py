"""The smallest bases of every family that can be trained, and data shards to train them on.

Rule 1: everything is built in code from a seed; nothing comes from a network.
"""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
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
from PIL import Image, ImageDraw
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 220)}
SHAPES = ("circle", "bar")
WORDS = ("a", "on", "white", *COLOURS, *SHAPES)


def quieten() -> None:
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def tokenizer() -> CLIPTokenizer:
    """A tokenizer of whole words; others fall apart into letters."""
    letters = sorted({letter for word in WORDS for letter in word})
    tokens = [letter + end for letter in letters for end in ("", "</w>")]
    merges = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in merges:
                merges.append(pair)
            pieces = ["".join(pair), *pieces[2:]]
            tokens.append(pieces[0])
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=8)


def text_encoder() -> CLIPTextModel:
    words = tokenizer()
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
        sample_size=8,
    ).eval()


def text_base(folder: Path) -> Path:
    """A Stable Diffusion pipeline of 8x8 pixels, 4x4 latents."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    StableDiffusionPipeline(
        unet=unet,
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def class_base(folder: Path, classes: int = 3, channels: int = 1, width: int = 8) -> Path:
    """A U-Net of pixels, 8x8, told of classes; the last embedding stands for none."""
    torch.manual_seed(1)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(width, 2 * width),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        num_class_embeds=classes + 1,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def plain_base(folder: Path, **scheduler: object) -> Path:
    """An unconditional U-Net of pixels, 8x8, in colour."""
    torch.manual_seed(1)
    unet = UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )
    DDPMPipeline(unet, DDPMScheduler(**scheduler)).save_pretrained(folder)
    return folder


def dit_base(folder: Path, classes: int = 3) -> Path:
    """A DiT of 4x4 latents that predicts variances as well."""
    torch.manual_seed(1)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=classes,
        norm_num_groups=4,
    )
    DiTPipeline(
        transformer=transformer, vae=autoencoder(), scheduler=DDIMScheduler()
    ).save_pretrained(folder)
    return folder


def drawn(colour: str, shape: str, size: int, shift: int = 0) -> Image.Image:
    """A coloured shape on white."""
    picture = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(picture)
    edge = max(size // 5, 1)
    box = [edge + shift, edge, size - 1 - edge + shift, size - 1 - edge]
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    else:
        draw.rectangle([box[0], size // 2, *box[2:]], fill=COLOURS[colour])
    return picture


def captioned_shard(folder: Path, count: int = 6, size: int = 8) -> Path:
    """Shapes with captions beside them."""
    folder.mkdir(parents=True)
    kinds = [(colour, shape) for shape in SHAPES for colour in COLOURS]
    for index in range(count):
        colour, shape = kinds[index % len(kinds)]
        drawn(colour, shape, size, 1 + index % 2).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a {colour} {shape} on white\n")
    return folder


def class_shard(folder: Path, each: int = 2, size: int = 8) -> Path:
    """Shapes in a folder for each of three colours."""
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for index in range(each):
            drawn(colour, SHAPES[index % 2], size).save(folder / colour / f"{index}.png")
    return folder


def rows_shard(folder: Path, rows: list[dict[str, object]], size: int = 8) -> Path:
    """Images of noise described by metadata.jsonl."""
    folder.mkdir(parents=True)
    for number, row in enumerate(rows):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / str(row["file_name"]))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
