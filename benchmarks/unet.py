"""The tensors of the Stable Diffusion 1.5 UNet in diffusers' naming, derived from its architecture.

Rule 1: names and shapes follow from a handful of numbers; a test holds them against diffusers' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

CHANNELS = (320, 640, 1280, 1280)
LAYERS = 2
LATENT_CHANNELS = 4
TEXT_WIDTH = 768
TIME_WIDTH = 4 * CHANNELS[0]


@dataclass(frozen=True, slots=True)
class NamedShape:
    """A tensor by its name and shape, before it has a dtype or a value."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def stable_diffusion_unet() -> list[NamedShape]:
    """The 686 tensors of the UNet, 859,520,964 parameters, sorted by name."""
    tensors = [
        *_convolution("conv_in", CHANNELS[0], LATENT_CHANNELS, 3),
        *_linear("time_embedding.linear_1", TIME_WIDTH, CHANNELS[0]),
        *_linear("time_embedding.linear_2", TIME_WIDTH, TIME_WIDTH),
        *_down_and_up(),
        *_resnet("mid_block.resnets.0", CHANNELS[-1], CHANNELS[-1]),
        *_attention("mid_block.attentions.0", CHANNELS[-1]),
        *_resnet("mid_block.resnets.1", CHANNELS[-1], CHANNELS[-1]),
        *_norm("conv_norm_out", CHANNELS[0]),
        *_convolution("conv_out", LATENT_CHANNELS, CHANNELS[0], 3),
    ]
    return sorted(tensors, key=lambda tensor: tensor.name)


def _down_and_up() -> list[NamedShape]:
    tensors: list[NamedShape] = []
    width = CHANNELS[0]
    # outputs of the down blocks that the up blocks concatenate
    skips = [width]
    for index, channels in enumerate(CHANNELS):
        block = f"down_blocks.{index}"
        for layer in range(LAYERS):
            tensors += _resnet(f"{block}.resnets.{layer}", width, channels)
            if index < len(CHANNELS) - 1:
                tensors += _attention(f"{block}.attentions.{layer}", channels)
            width = channels
            skips.append(width)
        if index < len(CHANNELS) - 1:
            tensors += _convolution(f"{block}.downsamplers.0.conv", channels, channels, 3)
            skips.append(width)
    for index, channels in enumerate(reversed(CHANNELS)):
        block = f"up_blocks.{index}"
        for layer in range(LAYERS + 1):
            tensors += _resnet(f"{block}.resnets.{layer}", width + skips.pop(), channels)
            if index > 0:
                tensors += _attention(f"{block}.attentions.{layer}", channels)
            width = channels
        if index < len(CHANNELS) - 1:
            tensors += _convolution(f"{block}.upsamplers.0.conv", channels, channels, 3)
    return tensors


def _resnet(name: str, width: int, channels: int) -> list[NamedShape]:
    tensors = [
        *_norm(f"{name}.norm1", width),
        *_convolution(f"{name}.conv1", channels, width, 3),
        *_linear(f"{name}.time_emb_proj", channels, TIME_WIDTH),
        *_norm(f"{name}.norm2", channels),
        *_convolution(f"{name}.conv2", channels, channels, 3),
    ]
    if width != channels:
        tensors += _convolution(f"{name}.conv_shortcut", channels, width, 1)
    return tensors


def _attention(name: str, channels: int) -> list[NamedShape]:
    block = f"{name}.transformer_blocks.0"
    tensors = [
        *_norm(f"{name}.norm", channels),
        *_convolution(f"{name}.proj_in", channels, channels, 1),
        *_convolution(f"{name}.proj_out", channels, channels, 1),
        # the gated feed-forward has two branches of four times the width
        *_linear(f"{block}.ff.net.0.proj", 8 * channels, channels),
        *_linear(f"{block}.ff.net.2", channels, 4 * channels),
    ]
    for part, source in (("attn1", channels), ("attn2", TEXT_WIDTH)):
        tensors += [
            NamedShape(f"{block}.{part}.to_q.weight", (channels, channels)),
            NamedShape(f"{block}.{part}.to_k.weight", (channels, source)),
            NamedShape(f"{block}.{part}.to_v.weight", (channels, source)),
            *_linear(f"{block}.{part}.to_out.0", channels, channels),
        ]
    for part in ("norm1", "norm2", "norm3"):
        tensors += _norm(f"{block}.{part}", channels)
    return tensors


def _norm(name: str, channels: int) -> list[NamedShape]:
    return [NamedShape(f"{name}.weight", (channels,)), NamedShape(f"{name}.bias", (channels,))]


def _linear(name: str, out: int, width: int) -> list[NamedShape]:
    return [NamedShape(f"{name}.weight", (out, width)), NamedShape(f"{name}.bias", (out,))]


def _convolution(name: str, out: int, width: int, kernel: int) -> list[NamedShape]:
    shape = (out, width, kernel, kernel)
    return [NamedShape(f"{name}.weight", shape), NamedShape(f"{name}.bias", (out,))]
