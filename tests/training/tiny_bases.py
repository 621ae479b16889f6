"""The smallest bases of every family that can be trained, and data shards to train them on.

Rule 1: everything is built in code from a seed; nothing comes from a network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    LDMPipeline,
    StableDiffusionPipeline,
)
from PIL import Image, ImageDraw
from transformers import CLIPTextModel, CLIPTokenizer

# lets whoever imports this module, or runs it, find what is built for other tests, too
sys.path.insert(0, str(Path(__file__).parents[1]))

import tiny_models
import tiny_texts
from tiny_texts import quieten

__all__ = ["quieten", "torch"]

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 220)}
SHAPES = ("circle", "bar")
WORDS = ("a", "on", "white", *COLOURS, *SHAPES)


def tokenizer() -> CLIPTokenizer:
    return tiny_texts.tokenizer(sorted({letter for word in WORDS for letter in word}), WORDS)


def text_encoder() -> CLIPTextModel:
    words = tokenizer()
    torch.manual_seed(3)
    return tiny_texts.text_encoder(words, width=16).eval()


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(2)
    return tiny_models.autoencoder().eval()


def text_base(folder: Path) -> Path:
    """A Stable Diffusion pipeline of 8x8 pixels, 4x4 latents."""
    torch.manual_seed(1)
    unet = tiny_models.text_unet(block_out_channels=(8, 16), cross_attention_dim=16)
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
    unet = tiny_models.unet(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(width, 2 * width),
        num_class_embeds=classes + 1,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def plain_base(folder: Path, **scheduler: object) -> Path:
    """An unconditional U-Net of pixels, 8x8, in colour."""
    torch.manual_seed(1)
    unet = tiny_models.unet(
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    DDPMPipeline(unet, DDPMScheduler(**scheduler)).save_pretrained(folder)
    return folder


def latent_base(folder: Path, **scheduler: object) -> Path:
    """An unconditional U-Net of 4x4 latents, which are quantised to decode them."""
    torch.manual_seed(1)
    unet = tiny_models.unet(
        sample_size=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    LDMPipeline(
        vqvae=tiny_models.drawn(tiny_models.quantising(), 2, 1 / 4),
        unet=unet,
        scheduler=DDIMScheduler(**{"clip_sample": False, **scheduler}),
    ).save_pretrained(folder)
    return folder


def dit_base(folder: Path, classes: int = 3) -> Path:
    """A DiT of 4x4 latents that predicts variances as well."""
    torch.manual_seed(1)
    transformer = tiny_models.dit(attention_head_dim=8, num_layers=3, num_embeds_ada_norm=classes)
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
