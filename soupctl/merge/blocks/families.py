"""The named blocks of models that are commonly merged by block: data, in one place.

Rule 1: a name comes from the tool that made it common; otherwise it is a letter for the kind of
block, and its number.
Rule 2: one block has one name in every naming of a model's tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product

from ...frozen import frozen

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "unet.", "transformer.", "model.", "")
"""Prefixes that the names of a denoiser's tensors may have."""

Blocks = Mapping[str, tuple[str, ...]]
"""The globs of each block by its name."""

MOST_NUMBERED = 64
"""Most blocks of one kind."""


def _numbered(letter: str, glob: str, count: int = MOST_NUMBERED) -> dict[str, tuple[str, ...]]:
    return {f"{letter}{number:02}": (glob.format(number),) for number in range(count)}


def _joined(*tables: Blocks) -> Blocks:
    """One table; a block in several of them gets the globs of all."""
    joined: dict[str, tuple[str, ...]] = {}
    for name, globs in (item for table in tables for item in table.items()):
        joined[name] = (*joined.get(name, ()), *globs)
    return joined


def _ldm_unet(count: int) -> Blocks:
    """A UNet with that many blocks on each side, in CompVis's naming."""
    return _joined(
        _numbered("IN", "input_blocks.{}.*", count),
        {"M00": ("middle_block.*",)},
        _numbered("OUT", "output_blocks.{}.*", count),
        {f"OUT{count - 1:02}": ("out.*",)},
    )


def _diffusers_unet(count: int) -> Blocks:
    """The same in diffusers' naming, where the layers of a level are separate blocks."""
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
    return _joined(*tables)


def _layer(level: str, layer: int) -> tuple[str, ...]:
    return f"{level}.resnets.{layer}.*", f"{level}.attentions.{layer}.*"


@frozen
class BlockFamily:
    """Models whose blocks have the same names."""

    name: str
    marks: tuple[tuple[str, ...], ...]
    """Groups of name prefixes; a tensor must match one of each group."""
    absent: tuple[str, ...]
    """Prefixes that no tensor may have."""
    blocks: Blocks
    others: Blocks
    """Blocks outside the denoiser, by whole names: text encoders and the VAE."""


_VAE: Blocks = {"VAE": ("first_stage_model.*", "vae.*")}
_FLUX_OTHERS = _joined(
    _VAE,
    {
        "CLIP": ("text_encoders.clip_l.*", "text_model.*"),
        "T5": ("text_encoders.t5xxl.*", "shared.*", "encoder.block.*"),
    },
    {"T5": ("encoder.final_layer_norm.*", "encoder.embed_tokens.*")},
)


def _family(
    name: str,
    *marks: tuple[str, ...],
    blocks: Blocks,
    absent: tuple[str, ...] = (),
    others: Blocks = _VAE,
) -> BlockFamily:
    return BlockFamily(name, marks, absent, blocks, others)


_LDM_PARTS = ("input_blocks.", "middle_block.", "output_blocks.")
_UNET_PARTS = ("down_blocks.", "mid_block.", "up_blocks.")
_TIME = {"IN00": ("time_embed.*",)}
_TIME_OF_DIFFUSERS = {"IN00": ("time_embedding.*",)}
_SINGLE = ("single_transformer_blocks.",)
_STREAMS = _joined(
    {"IN": ("img_in.*", "txt_in.*", "time_in.*", "vector_in.*", "guidance_in.*")},
    _numbered("D", "double_blocks.{}.*"),
    _numbered("S", "single_blocks.{}.*"),
    {"OUT": ("final_layer.*",)},
)
_STREAMS_OF_DIFFUSERS = _joined(
    {"IN": ("x_embedder.*", "context_embedder.*", "time_text_embed.*")},
    _numbered("D", "transformer_blocks.{}.*"),
    _numbered("S", "single_transformer_blocks.{}.*"),
    {"OUT": ("norm_out.*", "proj_out.*")},
)
_GUIDANCE = {"GUIDE": ("distilled_guidance_layer.*",)}
_FLUX, _CHROMA = "Flux", "Chroma"
SD, SDXL = "SD 1.x or 2.x", "SDXL"

FAMILIES = (
    # SuperMerger, BLOCKIDXLL: time and label embeddings are in no block and stay those of the first
    # model
    _family(
        SDXL,
        ("label_emb.",),
        _LDM_PARTS,
        absent=("input_blocks.9.", "output_blocks.9."),
        blocks=_joined(_ldm_unet(9), {"EMB": ("time_embed.*", "label_emb.*")}),
    ),
    _family(
        SDXL,
        ("add_embedding.",),
        _UNET_PARTS,
        absent=("down_blocks.3.", "up_blocks.3."),
        blocks=_joined(_diffusers_unet(9), {"EMB": ("time_embedding.*", "add_embedding.*")}),
    ),
    # SuperMerger, BLOCKID: the time embedding is in the first block
    _family(SD, _LDM_PARTS, blocks=_joined(_ldm_unet(12), _TIME)),
    _family(SD, _UNET_PARTS, blocks=_joined(_diffusers_unet(12), _TIME_OF_DIFFUSERS)),
    # SuperMerger, BLOCKIDFLUX
    _family(
        _CHROMA,
        ("distilled_guidance_layer.",),
        ("double_blocks.", "single_blocks."),
        blocks=_joined(_STREAMS, _GUIDANCE),
        others=_FLUX_OTHERS,
    ),
    _family(
        _CHROMA,
        ("distilled_guidance_layer.",),
        _SINGLE,
        blocks=_joined(_STREAMS_OF_DIFFUSERS, _GUIDANCE),
        others=_FLUX_OTHERS,
    ),
    _family(_FLUX, ("double_blocks.", "single_blocks."), blocks=_STREAMS, others=_FLUX_OTHERS),
    _family(_FLUX, _SINGLE, blocks=_STREAMS_OF_DIFFUSERS, others=_FLUX_OTHERS),
    # Stability's mmdit.py, and SD3Transformer2DModel
    _family(
        "SD 3",
        ("joint_blocks.",),
        blocks=_joined(
            {"IN": ("x_embedder.*", "context_embedder.*", "t_embedder.*", "y_embedder.*")},
            {"IN": ("pos_embed",)},
            _numbered("J", "joint_blocks.{}.*"),
            {"OUT": ("final_layer.*",)},
        ),
    ),
    # QwenImageTransformer2DModel
    _family(
        "Qwen-Image",
        ("transformer_blocks.",),
        ("txt_norm.", "img_in."),
        blocks=_joined(
            {"IN": ("img_in.*", "txt_in.*", "txt_norm.*", "time_text_embed.*")},
            _numbered("T", "transformer_blocks.{}.*"),
            {"OUT": ("norm_out.*", "proj_out.*")},
        ),
    ),
    _family(
        "SD 3",
        ("transformer_blocks.",),
        ("context_embedder.",),
        blocks=_joined(
            {"IN": ("pos_embed.*", "context_embedder.*", "time_text_embed.*")},
            _numbered("J", "transformer_blocks.{}.*"),
            {"OUT": ("norm_out.*", "proj_out.*")},
        ),
    ),
    # Wan's model.py, and WanTransformer3DModel
    _family(
        "Wan",
        ("blocks.",),
        ("patch_embedding.",),
        blocks=_joined(
            {"IN": ("patch_embedding.*", "text_embedding.*", "time_embedding.*")},
            {"IN": ("time_projection.*", "img_emb.*", "condition_embedder.*", "ref_conv.*")},
            _numbered("B", "blocks.{}.*"),
            # of VACE models
            {"IN": ("vace_patch_embedding.*",)},
            _numbered("V", "vace_blocks.{}.*"),
            {"OUT": ("head.*", "scale_shift_table", "proj_out.*")},
        ),
    ),
    # ZImageTransformer2DModel; merging tools use these names for the refiners
    _family(
        "Z-Image",
        ("layers.",),
        ("noise_refiner.", "context_refiner.", "cap_embedder."),
        blocks=_joined(
            {"IN": ("x_embedder.*", "all_x_embedder.*", "t_embedder.*", "cap_embedder.*")},
            {"IN": ("x_pad_token", "cap_pad_token")},
            {"CONT": ("context_refiner.*",), "NOISE": ("noise_refiner.*",)},
            _numbered("L", "layers.{}.*"),
            {"OUT": ("final_layer.*", "all_final_layer.*")},
        ),
    ),
    # facebookresearch/DiT, models.py, and DiTTransformer2DModel
    _family(
        "DiT",
        ("blocks.",),
        ("y_embedder.",),
        blocks=_joined(
            {"IN": ("x_embedder.*", "t_embedder.*", "y_embedder.*", "pos_embed")},
            _numbered("T", "blocks.{}.*"),
            {"OUT": ("final_layer.*",)},
        ),
    ),
    _family(
        "DiT",
        ("transformer_blocks.",),
        ("proj_out_1.",),
        blocks=_joined(
            {"IN": ("pos_embed.*",)},
            _numbered("T", "transformer_blocks.{}.*"),
            {"OUT": ("proj_out_1.*", "proj_out_2.*")},
        ),
    ),
)
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
                every = _joined(
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
