"""Weights by block are read exactly, fit the model, and are refused where they do not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from soupctl.errors import InputError, UsageError
from soupctl.merge.blocks.families import named_blocks
from soupctl.merge.blocks.presets import PRESETS
from soupctl.merge.blocks.request import BlockWeights, ClassicBlocks, read_blocks
from soupctl.merge.blocks.resolve import CLASSIC, resolve

LDM = "model.diffusion_model."
PAIR = ("a.st", "b.st")
ONES = (Fraction(1), Fraction(1))
SD = {
    LDM + "time_embed.0.weight",
    *(f"{LDM}input_blocks.{n}.0.weight" for n in range(12)),
    LDM + "middle_block.1.norm.weight",
    *(f"{LDM}output_blocks.{n}.0.weight" for n in range(12)),
    LDM + "out.2.weight",
    "cond_stage_model.transformer.x.weight",
    "first_stage_model.decoder.x.weight",
}
SDXL = {
    *(LDM + name for name in ("time_embed.0.weight", "label_emb.0.0.weight", "out.2.weight")),
    *(f"{LDM}input_blocks.{n}.0.weight" for n in range(9)),
    LDM + "middle_block.1.norm.weight",
    *(f"{LDM}output_blocks.{n}.0.weight" for n in range(9)),
    "conditioner.embedders.0.x.weight",
}
FLUX = {
    *(f"{name}.weight" for name in ("img_in", "txt_in", "time_in.in_layer", "final_layer.linear")),
    *(f"double_blocks.{n}.img_attn.qkv.weight" for n in range(19)),
    *(f"single_blocks.{n}.linear1.weight" for n in range(38)),
    "text_encoders.t5xxl.shared.weight",
    "text_encoders.clip_l.x.weight",
    "vae.decoder.x.weight",
}


HUNYUAN = "HunyuanVideo or HunyuanImage"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "w.toml"
    path.write_text(text, "utf-8")
    return path


def shares(asked: ClassicBlocks, names: set[str]) -> dict[str, Fraction]:
    """The share of the second ingredient in each tensor."""
    found = resolve(asked, PAIR, ONES, names)
    weights = {}
    for name in names:
        matching = (pair for glob, pair in found.blocks if name.startswith(glob[:-1]))
        first, second = next(matching, found.default)
        assert first + second == 1
        weights[name] = second
    return weights


def numbered(count: int) -> ClassicBlocks:
    """Another share in each block, in the order of a classic string."""
    return ClassicBlocks(tuple(Fraction(n + 1, 100) for n in range(count)))


def block_share(count: int, block: str) -> Fraction:
    return Fraction(CLASSIC[count].index(block) + 1, 100)


def test_numbers_of_a_file_are_exact_and_keep_their_order(tmp_path):
    path = written(tmp_path, 'default = [1, 0]\n[blocks]\n"*.z" = [0.1, "1/3"]\n"*" = [1e-3, 70]\n')
    tenths = (Fraction(1, 10), Fraction(1, 3)), (Fraction(1, 1000), Fraction(70))

    expected = BlockWeights((("*.z", tenths[0]), ("*", tenths[1])), (Fraction(1), Fraction(0)))
    assert expected == read_blocks(str(path)) == read_blocks(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults = [1, 0]\n[blocks]\nw = [1, 1]", "'defaults' is not a known key (did you mean"),
        ("[blocks]\nw = 0.5", "'w' is not a list of weights (such as"),
        ("[blocks]\nw = [true, 1]", "'w': its weights must be numbers"),
        ("[blocks]\nw = [inf, 1]", "'w': 'inf' is not a weight"),
        ("[blocks]\nw = [1e999, 1]", "'w': '1e999' is not a weight"),
        ("blocks = 3", "blocks is not a table"),
        ("default = [1, 0]", "has no weights by block"),
        ("[blocks]\nw = ['1/0', 1]", "'w': '1/0' divides by zero"),
        ("[blocks]\na.b = [1, 2]", "'a' is not a list of weights"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, text, message):
    with pytest.raises(UsageError) as caught:
        read_blocks(written(tmp_path, text))
    assert f"{tmp_path / 'w.toml'}: {message}" in caught.value.message()


@pytest.mark.parametrize("text", ["[blocks", "w = 1\nw = 2", "a = " + "[" * 5_000, "a." * 900])
def test_a_file_that_is_not_toml_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="is not valid TOML"):
        read_blocks(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("GRAD_W", "'GRAD_W' is not a file, preset or list of numbers (did you mean GRAD_"),
        ("1,2,3", "--blocks has 3 numbers (26 (SD 1.x, 2.x), 20 (SDXL) and 61 (Flux) are known)"),
        ("0,x" + ",0" * 24, "'x' is not a weight"),
    ],
)
def test_an_unknown_argument_of_blocks_is_refused(text, message):
    with pytest.raises(UsageError) as caught:
        read_blocks(text)
    assert message in caught.value.message()


def test_floats_are_refused_from_python():
    for make in (
        lambda: ClassicBlocks((0.5,) * 26),
        lambda: BlockWeights((("*", (0.5, True)),)),
    ):
        with pytest.raises(UsageError, match="is not exact"):
            make()


def test_every_preset_has_a_number_for_each_block():
    assert 38 == len(PRESETS)
    for name in PRESETS:
        found = read_blocks(name)
        assert isinstance(found, ClassicBlocks)
        assert 26 == len(found.shares)
        assert all(0 <= share <= 1 for share in found.shares)
    assert Fraction(9166666667, 10**10) == read_blocks("GRAD_V").shares[2]


def test_a_classic_string_gives_each_block_of_sd_its_share():
    found = shares(numbered(26), SD)

    for name in ("IN07", "OUT11", "M00"):
        part = {"IN": "input", "OU": "output", "M0": "middle"}[name[:2]]
        number = "1" if name == "M00" else str(int(name[-2:]))
        block = f"{LDM}{part}_block{'' if name == 'M00' else 's'}.{number}."
        (share,) = {share for key, share in found.items() if key.startswith(block)}
        assert block_share(26, name) == share
    assert block_share(26, "IN00") == found[LDM + "time_embed.0.weight"]
    assert block_share(26, "OUT11") == found[LDM + "out.2.weight"]
    beside = {found["cond_stage_model.transformer.x.weight"]}
    assert {block_share(26, "BASE")} == beside | {found["first_stage_model.decoder.x.weight"]}


def test_a_classic_string_gives_each_block_of_sdxl_its_share():
    for asked, count in ((numbered(20), 20), (numbered(26), 26)):
        found = shares(asked, SDXL)
        assert block_share(count, "IN08") == found[LDM + "input_blocks.8.0.weight"]
        assert block_share(count, "OUT00") == found[LDM + "output_blocks.0.0.weight"]
        assert block_share(count, "OUT08") == found[LDM + "out.2.weight"]
        assert block_share(count, "BASE") == found["conditioner.embedders.0.x.weight"]
        # what embeds time and labels stays the first model's
        assert 0 == found[LDM + "time_embed.0.weight"] == found[LDM + "label_emb.0.0.weight"]


def test_a_classic_string_gives_each_block_of_flux_its_share():
    found = shares(numbered(61), FLUX)

    assert block_share(61, "D07") == found["double_blocks.7.img_attn.qkv.weight"]
    assert block_share(61, "S37") == found["single_blocks.37.linear1.weight"]
    assert block_share(61, "IN") == found["img_in.weight"] == found["time_in.in_layer.weight"]
    assert block_share(61, "OUT") == found["final_layer.linear.weight"]
    assert block_share(61, "T5") == found["text_encoders.t5xxl.shared.weight"]
    assert block_share(61, "CLIP") == found["text_encoders.clip_l.x.weight"]
    assert 0 == found["vae.decoder.x.weight"]


@pytest.mark.parametrize(
    ("count", "names", "message"),
    [
        (20, SD, "looks like SD 1.x or 2.x, with IN09, which 20 numbers do not have"),
        (61, SD, "which 61 numbers do not have"),
        (26, FLUX, "looks like Flux, with"),
        (61, {*FLUX, "single_blocks.38.linear1.weight"}, "with S38, which 61 numbers do not have"),
        (26, {"w"}, "is not of a kind of model that has 26 blocks"),
    ],
)
def test_a_classic_string_of_another_model_is_refused(count, names, message):
    with pytest.raises(UsageError, match=message):
        resolve(numbered(count), PAIR, ONES, names)


def test_a_classic_string_is_for_two_ingredients():
    with pytest.raises(UsageError, match="and there are 3"):
        resolve(numbered(26), (*PAIR, "c.st"), (*ONES, Fraction(1)), SD)


def test_a_preset_that_leaves_one_ingredient_out_of_everything_is_refused():
    with pytest.raises(UsageError, match=r"b\.st: has weight 0 in every tensor"):
        resolve(read_blocks("ALL_A"), PAIR, ONES, SD)


def test_the_first_glob_in_the_order_of_the_file_wins_and_shadowed_ones_are_left_out():
    half, first = (Fraction(1, 2),) * 2, (Fraction(1), Fraction(0))
    asked = BlockWeights((("a.*", half), ("*.w", first), ("a.w", first)))
    found = resolve(asked, PAIR, ONES, {"a.w", "a.x", "c.w"})

    assert (("a.*", half), ("*.w", first)) == found.blocks
    assert ONES == found.default


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"IN13": ONES}, "--blocks 'IN13' matches no tensor (similar: IN1"),
        ({"*.atn2.*": ONES}, "--blocks '*.atn2.*' matches no tensor ("),
        ({"IN01": (*ONES, *ONES)}, "--blocks IN01 has 4 weights for 2 ingredients"),
    ],
)
def test_blocks_that_the_model_does_not_have_are_refused(blocks, message):
    with pytest.raises(UsageError) as caught:
        resolve(BlockWeights(tuple(blocks.items())), PAIR, ONES, SD)
    assert message in caught.value.message()


def test_default_weights_beside_weights_of_the_ingredients_are_refused():
    asked = BlockWeights((("IN01", ONES),), ONES)

    with pytest.raises(UsageError, match="use one of them"):
        resolve(asked, PAIR, (Fraction(1), Fraction(2)), SD)


@pytest.mark.parametrize(
    ("family", "names", "block"),
    [
        ("Flux", ("single_transformer_blocks.3.x", "transformer_blocks.3.x"), "S03"),
        ("Flux", ("single_transformer_blocks.3.x", "transformer_blocks.3.x"), "D03"),
        ("SD 3", (LDM + "joint_blocks.5.x.w", LDM + "final_layer.w"), "J05"),
        ("SD 3", ("transformer_blocks.5.x", "context_embedder.w", "pos_embed.proj.w"), "J05"),
        ("Chroma", ("distilled_guidance_layer.x.w", "double_blocks.1.w"), "GUIDE"),
        ("Qwen-Image", ("transformer_blocks.59.x", "txt_norm.weight", "img_in.w"), "T59"),
        ("Wan", ("blocks.39.x", "patch_embedding.weight", "head.head.w"), "B39"),
        (
            "Wan",
            ("vace_blocks.7.x", "vace_patch_embedding.w", "patch_embedding.w", "blocks.0.x"),
            "V07",
        ),
        (
            "Z-Image",
            ("layers.29.x", "noise_refiner.0.x", "cap_embedder.1.w", "cap_pad_token"),
            "NOISE",
        ),
        ("Lumina 2", ("layers.25.x", "noise_refiner.0.x", "cap_embedder.1.w"), "L25"),
        ("Lumina 2", ("layers.25.x", "noise_refiner.0.x", "time_caption_embed.x.w"), "NOISE"),
        ("Flux.2", ("double_blocks.7.x", "double_stream_modulation_img.lin.weight"), "MOD"),
        (
            "Flux.2",
            ("single_transformer_blocks.47.x", "double_stream_modulation_img.linear.weight"),
            "S47",
        ),
        ("AuraFlow", ("double_layers.3.x", "single_layers.31.x", "init_x_linear.weight"), "S31"),
        ("AuraFlow", ("joint_transformer_blocks.3.x", "single_transformer_blocks.31.x"), "D03"),
        (HUNYUAN, ("double_blocks.19.x", "txt_in.individual_token_refiner.x.w"), "D19"),
        (HUNYUAN, ("transformer_blocks.19.x", "context_embedder.token_refiner.x.w"), "D19"),
        ("DiT", ("blocks.27.x", "y_embedder.embedding_table.weight", "pos_embed"), "T27"),
        ("DiT", ("transformer_blocks.27.x", "proj_out_1.weight"), "T27"),
    ],
)
def test_transformers_have_named_blocks_in_every_naming(family, names, block):
    known = named_blocks(set(names))

    assert known is not None
    assert (family, True) == (known.family, block in known.globs)
    begins = [glob.removesuffix("*") for globs in known.globs.values() for glob in globs]
    assert {1} == {sum(name.startswith(each) for each in begins) for name in names}


@pytest.mark.parametrize(
    "names",
    [
        {"w", "layer.0.weight"},
        # Hunyuan3D, PixArt, OmniGen2, LTX-Video
        {"double_blocks.0.x", "single_blocks.0.x", "latent_in.weight"},
        {"blocks.0.x", "y_embedder.y_proj.fc1.weight", "t_block.1.weight"},
        {"layers.0.x", "noise_refiner.0.x", "time_caption_embed.x", "ref_image_patch_embedder.w"},
        {"transformer_blocks.0.x", "patchify_proj.weight"},
    ],
)
def test_a_model_of_an_unknown_kind_has_no_named_blocks(names):
    assert named_blocks(names) is None
