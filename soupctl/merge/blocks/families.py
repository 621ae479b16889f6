"""The named blocks of models that are commonly merged by block: data, in one place.

Rule 1: a name comes from the tool that made it common; otherwise it is a letter for the kind of
block, and its number.
Rule 2: one block has one name in every naming of a model's tensors.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

from ...frozen import frozen
from .block_family import BlockFamily, Blocks, block_family, joined, numbered
from .transformer_blocks import TRANSFORMERS

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "unet.", "transformer.", "model.", "")
"""Prefixes that the names of a denoiser's tensors may have."""


def _ldm_unet(count: int) -> Blocks:
    """A UNet with that many blocks on each side, in CompVis's naming."""
    return joined(
        numbered("IN", "input_blocks.{}.*", count),
        {"M00": ("middle_block.*",)},
        numbered("OUT", "output_blocks.{}.*", count),
        {f"OUT{count - 1:02}": ("out.*",)},
    )


def _diffusers_unet(count: int) -> Blocks:
    """The blocks in diffusers' naming, where the layers of a level are separate blocks."""
    tables: list[Blocks] = [{"IN00": ("conv_in.*",)}]
    for level, layer in product(range(count // 3), range(3)):
        down, up = f"down_blocks.{level}", f"up_blocks.{level}"
        more = (f"{up}.upsamplers.*",) if layer == 2 else ()
        tables.append(
            {f"OUT{3 * level + layer:02}": (*_layer(up, layer), *more)},
        )
        if layer < 2:
            tables.append({f"IN{3 * level + layer + 1:02}": _layer(down, layer)})
        elif 3 * level + 3 < count:
            tables.append({f"IN{3 * level + 3:02}": (f"{down}.downsamplers.*",)})
    tables.append({"M00": ("mid_block.*",)})
    tables.append({f"OUT{count - 1:02}": ("conv_norm_out.*", "conv_out.*")})
    return joined(*tables)


def _layer(level: str, layer: int) -> tuple[str, ...]:
    return f"{level}.resnets.{layer}.*", f"{level}.attentions.{layer}.*"


_LDM_PARTS = ("input_blocks.", "middle_block.", "output_blocks.")
_UNET_PARTS = ("down_blocks.", "mid_block.", "up_blocks.")
_TIME = {"IN00": ("time_embed.*",)}
_TIME_OF_DIFFUSERS = {"IN00": ("time_embedding.*",)}
SD, SDXL = "SD 1.x or 2.x", "SDXL"

_UNETS = (
    # SuperMerger, BLOCKIDXLL: time and label embeddings are in no block and stay those of the first
    # model
    block_family(
        SDXL,
        ("label_emb.",),
        _LDM_PARTS,
        absent=("input_blocks.9.", "output_blocks.9."),
        blocks=joined(_ldm_unet(9), {"EMB": ("time_embed.*", "label_emb.*")}),
    ),
    block_family(
        SDXL,
        ("add_embedding.",),
        _UNET_PARTS,
        absent=("down_blocks.3.", "up_blocks.3."),
        blocks=joined(_diffusers_unet(9), {"EMB": ("time_embedding.*", "add_embedding.*")}),
    ),
    # SuperMerger, BLOCKID: the time embedding is in the first block
    block_family(SD, _LDM_PARTS, blocks=joined(_ldm_unet(12), _TIME)),
    block_family(SD, _UNET_PARTS, blocks=joined(_diffusers_unet(12), _TIME_OF_DIFFUSERS)),
)

FAMILIES = (*_UNETS, *TRANSFORMERS)
"""All families; the first that fits a model is used."""


@frozen
class NamedBlocks:
    """The named blocks of a model."""

    family: str
    globs: Blocks
    """The globs of each block of the model that match a tensor."""

    @property
    def is_unet(self) -> bool:
        """Whether the order of the blocks is that of their names: IN, M and OUT."""
        return self.family in (SD, SDXL)

    def name_of(self, glob: str) -> str:
        """The name of the block with this glob; the glob itself if there is none."""
        return next((name for name, globs in self.globs.items() if glob in globs), glob)


def named_blocks(names: Collection[str]) -> NamedBlocks | None:
    """The named blocks of a model whose tensors have these names; None for an unknown one."""
    for prefix in PREFIXES:
        starts = _beginnings(prefix, names)
        for family in FAMILIES:
            if _is_of(family, starts):
                every = joined(
                    {
                        name: tuple(prefix + glob for glob in globs)
                        for name, globs in family.blocks.items()
                    },
                    family.others,
                )
                present = _beginnings("", names)
                return NamedBlocks(family.name, _present(every, present))
    return None


def _is_of(family: BlockFamily, starts: Collection[str]) -> bool:
    has = [any(mark in starts for mark in group) for group in family.marks]
    return all(has) and not any(mark in starts for mark in family.absent)


def _beginnings(prefix: str, names: Collection[str]) -> set[str]:
    """The names without a prefix, and all their prefixes that end with a dot."""
    found: set[str] = set()
    for name in names:
        if not name.startswith(prefix):
            continue
        rest = name[len(prefix) :]
        end = len(rest)
        # all prefixes of a known prefix are known as well
        while end >= 0 and (start := rest[: end + 1]) not in found:
            found.add(start)
            end = rest.rfind(".", 0, end)
    return found


def _present(blocks: Blocks, beginnings: Collection[str]) -> Blocks:
    """The blocks without globs that match nothing; each is a name, or a prefix and a star."""
    kept = {
        name: tuple(glob for glob in globs if glob.removesuffix("*") in beginnings)
        for name, globs in blocks.items()
    }
    return {name: globs for name, globs in kept.items() if globs}
