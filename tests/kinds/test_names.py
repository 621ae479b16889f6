"""A common prefix or the names of another library version are undone where the names coincide."""

from __future__ import annotations

import pytest

from soupctl.kinds.names import PREFIXES, RENAMINGS, closest_renaming, common_prefix, renaming

NAMES = ["blocks.0.attn.weight", "blocks.1.attn.weight", "norm.weight"]


def undone(wanted: list[str], own: list[str], *optional: str) -> dict[str, str] | None:
    found = renaming(wanted, own, lambda name: name in optional)
    return None if found is None else dict(found.names)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_known_prefix_is_taken_away_or_put_before(prefix):
    longer = [prefix + name for name in NAMES]

    assert dict(zip(longer, NAMES, strict=True)) == undone(NAMES, longer)
    assert dict(zip(NAMES, longer, strict=True)) == undone(longer, NAMES)


def test_one_prefix_is_exchanged_for_another():
    wanted = ["model.diffusion_model." + name for name in NAMES]
    own = ["diffusion_model." + name for name in NAMES]

    assert dict(zip(own, wanted, strict=True)) == undone(wanted, own)


def test_a_prefix_that_the_names_themselves_begin_with_is_taken_away_once():
    wanted = ["model.embed.weight", "model.layers.0.weight", "lm_head.weight"]
    own = ["module." + name for name in wanted]

    assert dict(zip(own, wanted, strict=True)) == undone(wanted, own)


PAIRS = [
    (
        "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
        "cond_stage_model.transformer.encoder.layers.0.mlp.fc1.weight",
    ),
    (
        "text_model.embeddings.token_embedding.weight",
        "embeddings.token_embedding.weight",
    ),
    (
        "decoder.mid_block.attentions.0.to_out.0.weight",
        "decoder.mid_block.attentions.0.proj_attn.weight",
    ),
    ("mid_block.attentions.0.to_q.bias", "mid_block.attentions.0.query.bias"),
    ("bert.LayerNorm.weight", "bert.LayerNorm.gamma"),
    ("conv.parametrizations.weight.original1", "conv.weight_v"),
    ("model.layers.0.weight", "language_model.model.layers.0.weight"),
]


@pytest.mark.parametrize(("new", "old"), PAIRS)
def test_the_names_of_another_version_are_known_in_both_directions(new, old):
    same = "conv_in.weight"

    assert {old: new, same: same} == undone([new, same], [old, same])
    assert {new: old, same: same} == undone([old, same], [new, same])


@pytest.mark.parametrize(
    ("wanted", "own"),
    [
        (NAMES, ["other." + name for name in NAMES]),
        (NAMES, ["model." + name for name in NAMES[1:]]),
        (["a.weight", "b.weight"], ["model.a.weight", "model.a.weight.x"]),
        (["to_q.weight"], ["query.weight"]),
    ],
)
def test_names_that_do_not_coincide_then_are_left_as_they_are(wanted, own):
    assert undone(wanted, own) is None


def test_two_prefixes_of_one_file_are_taken_away_together():
    for own in ("module._orig_mod.", "_orig_mod.module.", "module.model."):
        longer = [own + name for name in NAMES]
        assert dict(zip(longer, NAMES, strict=True)) == undone(NAMES, longer)
        assert dict(zip(NAMES, longer, strict=True)) == undone(longer, NAMES)


@pytest.mark.parametrize("wrap", ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_the_names_of_wrapped_modules_are_undone_wherever_they_are(wrap):
    plain = ["blocks.0.norm.weight", "blocks.1.norm.weight"]
    for own in (
        [f"{wrap}blocks.{n}.{wrap}norm.weight" for n in range(2)],
        [f"{wrap}_orig_mod.blocks.{n}.norm.{wrap}weight" for n in range(2)],
    ):
        assert dict(zip(own, plain, strict=True)) == undone(plain, own)
        assert dict(zip(plain, own, strict=True)) == undone(own, plain)


NEW_VISION = (
    "model.language_model.layers.0.q.weight",
    "model.vision_tower.encoder.q.weight",
    "model.multi_modal_projector.linear_1.weight",
    "lm_head.weight",
)
OLD_VISION = (
    "language_model.model.layers.0.q.weight",
    "vision_tower.encoder.q.weight",
    "multi_modal_projector.linear_1.weight",
    "language_model.lm_head.weight",
)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (NEW_VISION, OLD_VISION),
        (
            ("model.language_model.layers.0.q.weight", "model.visual.q.weight", "lm_head.weight"),
            ("model.layers.0.q.weight", "visual.q.weight", "lm_head.weight"),
        ),
        (
            ("model.language_model.norm.weight", "model.image_newline"),
            ("language_model.model.norm.weight", "image_newline"),
        ),
    ],
)
def test_all_parts_of_an_older_vision_language_model_are_renamed_together(new, old):
    assert dict(zip(old, new, strict=True)) == undone(new, old)
    assert dict(zip(new, old, strict=True)) == undone(old, new)


def test_a_prefix_that_nobody_is_known_to_write_is_found_to_be_told():
    other = ["other.one." + name for name in NAMES]

    assert "other.one." == common_prefix(NAMES, other) == common_prefix(other, NAMES)
    assert common_prefix(NAMES, [*other, "more"]) is None
    assert common_prefix(NAMES, other[1:]) is None
    assert common_prefix(["layers.0.w"], ["layers.1.w"]) is None
    assert common_prefix([], NAMES) is None


def test_names_that_may_be_missing_do_not_keep_the_others_apart():
    own = ["model." + name for name in NAMES] + ["lm_head.weight"]

    assert undone(NAMES, own) is None
    assert NAMES[0] == (undone(NAMES, own, "lm_head.weight") or {})["model." + NAMES[0]]


def test_the_closest_renaming_leaves_the_fewest_names_apart():
    wanted = ["model.diffusion_model." + name for name in NAMES] + ["first_stage_model.x"]
    found = closest_renaming(wanted, NAMES)

    assert found is not None
    assert set(found.names.values()) == set(wanted[:3])
    assert closest_renaming(wanted, ["unrelated"]) is None


def test_each_renaming_says_who_made_it():
    assert all(PREFIXES.values())
    assert all(source for *_, source in RENAMINGS)
