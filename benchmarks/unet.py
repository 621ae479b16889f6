"""The tensors of the UNets of Stable Diffusion 1.5 and XL in diffusers' naming, by architecture.

Rule 1: names and shapes follow from a handful of numbers; a test holds them against diffusers' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

LAYERS = 2
LATENT_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class NamedShape:
    """A tensor by its name and shape, before it has a dtype or a value."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the two UNets differ in."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    """Transformer blocks in each attention layer of a block; 0 for no attention there."""
    middle_depth: int
    text_width: int
    projects_by_matrix: bool
    """Whether attention layers are entered and left by a matrix, not a convolution."""
    added_width: int = 0
    """The width of what is added to the time embedding; 0 for nothing."""

    @property
    def time_width(self) -> int:
        """The width of the time embedding."""
        return 4 * self.channels[0]


SD15 = Architecture((320, 640, 1280, 1280), (1, 1, 1, 0), 1, 768, False)
SDXL = Architecture((320, 640, 1280), (0, 2, 10), 10, 2048, True, 2816)


def stable_diffusion_unet(model: Architecture = SD15) -> list[NamedShape]:
    """The tensors of the UNet, by name; SD 1.5 has 686 with 859,520,964 parameters."""
    first, last, time = model.channels[0], model.channels[-1], model.time_width
    tensors = [
        *_convolution("conv_in", first, LATENT_CHANNELS, 3),
        *_linear("time_embedding.linear_1", time, first),
        *_linear("time_embedding.linear_2", time, time),
        *_down_and_up(model),
        *_resnet(model, "mid_block.resnets.0", last, last),
        *_attention(model, "mid_block.attentions.0", last, model.middle_depth),
        *_resnet(model, "mid_block.resnets.1", last, last),
        *_norm("conv_norm_out", first),
        *_convolution("conv_out", LATENT_CHANNELS, first, 3),
    ]
    if model.added_width:
        tensors += _linear("add_embedding.linear_1", time, model.added_width)
        tensors += _linear("add_embedding.linear_2", time, time)
    return sorted(tensors, key=lambda tensor: tensor.name)


def _down_and_up(model: Architecture) -> list[NamedShape]:
    tensors: list[NamedShape] = []
    channels_of, depths = model.channels, model.depths
    width = channels_of[0]
    # outputs of the down blocks that the up blocks concatenate
    skips = [width]
    for index, channels in enumerate(channels_of):
        block = f"down_blocks.{index}"
        for layer in range(LAYERS):
            tensors += _resnet(model, f"{block}.resnets.{layer}", width, channels)
            tensors += _attention(model, f"{block}.attentions.{layer}", channels, depths[index])
            width = channels
            skips.append(width)
        if index < len(channels_of) - 1:
            tensors += _convolution(f"{block}.downsamplers.0.conv", channels, channels, 3)
            skips.append(width)
    for index, channels in enumerate(reversed(channels_of)):
        block, depth = f"up_blocks.{index}", depths[-1 - index]
        for layer in range(LAYERS + 1):
            tensors += _resnet(model, f"{block}.resnets.{layer}", width + skips.pop(), channels)
            tensors += _attention(model, f"{block}.attentions.{layer}", channels, depth)
            width = channels
        if index < len(channels_of) - 1:
            tensors += _convolution(f"{block}.upsamplers.0.conv", channels, channels, 3)
    return tensors


def _resnet(model: Architecture, name: str, width: int, channels: int) -> list[NamedShape]:
    tensors = [
        *_norm(f"{name}.norm1", width),
        *_convolution(f"{name}.conv1", channels, width, 3),
        *_linear(f"{name}.time_emb_proj", channels, model.time_width),
        *_norm(f"{name}.norm2", channels),
        *_convolution(f"{name}.conv2", channels, channels, 3),
    ]
    if width != channels:
        tensors += _convolution(f"{name}.conv_shortcut", channels, width, 1)
    return tensors


def _attention(model: Architecture, name: str, channels: int, depth: int) -> list[NamedShape]:
    if depth == 0:
        return []
    tensors = _norm(f"{name}.norm", channels)
    for part in ("proj_in", "proj_out"):
        tensors += (
            _linear(f"{name}.{part}", channels, channels)
            if model.projects_by_matrix
            else _convolution(f"{name}.{part}", channels, channels, 1)
        )
    for number in range(depth):
        tensors += _transformer(f"{name}.transformer_blocks.{number}", channels, model.text_width)
    return tensors


def _transformer(block: str, channels: int, text_width: int) -> list[NamedShape]:
    # the gated feed-forward has two branches of four times the width
    tensors = [
        *_linear(f"{block}.ff.net.0.proj", 8 * channels, channels),
        *_linear(f"{block}.ff.net.2", channels, 4 * channels),
    ]
    for part, source in (("attn1", channels), ("attn2", text_width)):
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
