"""The blocks of a UNet in both namings, derived from the names of one.

CompVis numbers the blocks down and up consecutively, diffusers by level: see
convert_ldm_unet_checkpoint of diffusers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .pairs import RESNET

MIDDLE = {
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
}


def unet_names(modules: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each module in the blocks of a UNet, and its name in the other naming."""
    blocks = {*_prefixes(modules)}
    is_original = any(name.startswith("input_blocks.") for name in modules)
    pairs = [*MIDDLE.items(), *(_by_count(blocks) if is_original else _by_level(blocks))]
    for original, other in pairs:
        own, foreign = (original, other) if is_original else (other, original)
        for name in modules:
            if name.startswith(f"{own}."):
                yield name, f"{foreign}.{_inner(name.removeprefix(f'{own}.'), is_original)}"
            elif name == own:
                yield name, foreign


def _inner(name: str, is_original: bool) -> str:
    """The name of a module within a resnet; names within attentions are the same in both."""
    known = RESNET if is_original else {other: own for own, other in RESNET.items()}
    return known.get(name, name)


def _prefixes(modules: Collection[str]) -> Iterator[str]:
    """The prefixes of all names, of any length."""
    for name in modules:
        parts = name.split(".")
        yield from (".".join(parts[:length]) for length in range(2, len(parts) + 1))


def _by_count(blocks: Collection[str]) -> Iterator[tuple[str, str]]:
    """The pairs for a UNet in the CompVis naming."""
    level, inside, number = 0, 0, 1
    while f"input_blocks.{number}.0" in blocks:
        block = f"input_blocks.{number}"
        if f"{block}.0.op" in blocks:
            yield f"{block}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            level, inside = level + 1, 0
        else:
            yield f"{block}.0", f"down_blocks.{level}.resnets.{inside}"
            yield f"{block}.1", f"down_blocks.{level}.attentions.{inside}"
            inside += 1
        number += 1
    level, inside, number = 0, 0, 0
    while f"output_blocks.{number}.0" in blocks:
        block = f"output_blocks.{number}"
        sampler = next((f"{block}.{n}.conv" for n in (1, 2) if f"{block}.{n}.conv" in blocks), None)
        yield f"{block}.0", f"up_blocks.{level}.resnets.{inside}"
        if sampler != f"{block}.1.conv":
            yield f"{block}.1", f"up_blocks.{level}.attentions.{inside}"
        inside += 1
        if sampler is not None:
            yield sampler, f"up_blocks.{level}.upsamplers.0.conv"
            level, inside = level + 1, 0
        number += 1


def _by_level(blocks: Collection[str]) -> Iterator[tuple[str, str]]:
    """The pairs for a UNet in the diffusers naming."""
    level, number = 0, 1
    while f"down_blocks.{level}" in blocks:
        block, inside = f"down_blocks.{level}", 0
        while f"{block}.resnets.{inside}" in blocks:
            yield f"input_blocks.{number}.0", f"{block}.resnets.{inside}"
            yield f"input_blocks.{number}.1", f"{block}.attentions.{inside}"
            inside, number = inside + 1, number + 1
        if f"{block}.downsamplers.0.conv" in blocks:
            yield f"input_blocks.{number}.0.op", f"{block}.downsamplers.0.conv"
            number += 1
        level += 1
    level, number = 0, 0
    while f"up_blocks.{level}" in blocks:
        block, inside = f"up_blocks.{level}", 0
        while f"{block}.resnets.{inside}" in blocks:
            yield f"output_blocks.{number}.0", f"{block}.resnets.{inside}"
            yield f"output_blocks.{number}.1", f"{block}.attentions.{inside}"
            inside, number = inside + 1, number + 1
        if f"{block}.upsamplers.0.conv" in blocks:
            place = 2 if f"{block}.attentions.0" in blocks else 1
            yield f"output_blocks.{number - 1}.{place}.conv", f"{block}.upsamplers.0.conv"
        level += 1
