import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.banks.compatibility import require_fit, require_same_base
from soupctl.banks.config import BankConfig, BaseDescription, GateInput, GateKind, Site
from soupctl.banks.config_json import config_fields, encode_config, parse_config
from soupctl.errors import InputError, MismatchError, UsageError

DIT = BaseDescription(
    kind="DiTTransformer2DModel",
    sites=tuple(Site(f"transformer_blocks.{depth}", depth, (6, 4)) for depth in range(2)),
    sample_size=(4, 6),
    embedding_width=4,
    config_digest="blake3:c",
    num_train_timesteps=1000,
    prediction_type="epsilon",
    digest="blake3:d",
    name="base",
)
UNET = BaseDescription(
    kind="UNet2DModel",
    sites=(
        Site("down_blocks.0", 0, (8, 32, 24)),
        Site("mid_block", 1, (16, 8, 6)),
        Site("up_blocks.0", 2, (16, 8, 6)),
    ),
    sample_size=(32, 24),
    embedding_width=32,
)
FLUX = BaseDescription(
    kind="FluxTransformer2DModel",
    sites=(
        Site("transformer_blocks.0", 0, (6, 4)),
        Site("single_transformer_blocks.0", 1, (6, 4)),
        Site("single_transformer_blocks.1", 2, (6, 4)),
    ),
    sample_size=(6, 4),
    embedding_width=4,
)
LATE = (Site("transformer_blocks.1", 0, (6, 4)), Site("single_transformer_blocks.0", 1, (6, 4)))


def test_a_token_bank_has_a_prompt_a_position_and_one_gate_for_all_blocks():
    config = BankConfig(DIT, noisy=True)

    expected = {
        "prompts.transformer_blocks.0": (6, 4),
        "prompts.transformer_blocks.1": (6, 4),
        "gate.6.weight": (6, 5),
        "gate.6.bias": (6,),
        "gate.6.noise": (6, 4),
    }
    assert expected == dict(config.tensors)
    assert 2 * 6 * 4 + (4 + 1) * 6 + 6 == config.parameters


def test_a_mixture_has_k_whole_prompts_a_block():
    config = BankConfig(DIT, gate=GateKind.MIXTURE, num_prompts=3)

    assert (3, 6, 4) == config.tensors["prompts.transformer_blocks.1"]
    assert (3, 5) == config.tensors["gate.3.weight"]


def test_prompts_before_the_sequence_may_be_of_any_number():
    config = BankConfig(DIT, prepended=2)

    assert (2, 4) == config.tensors["prompts.transformer_blocks.0"]
    assert (2, 5) == config.tensors["gate.2.weight"]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (16, [(16, 16), (8, 6), (8, 6)]),
        (7, [(7, 7), (7, 6), (7, 6)]),
        (99, [(32, 24), (8, 6), (8, 6)]),
    ],
)
def test_the_grid_of_a_unet_gate_is_never_finer_than_the_block(grid, expected):
    config = BankConfig(UNET, gate_grid=grid)

    assert expected == [config.grid(site) for site in UNET.sites]
    assert tuple(sorted({rows * columns for rows, columns in expected})) == config.gates


@pytest.mark.parametrize(
    ("topk", "rows", "expected"), [(1.0, 256, 256), (0.5, 256, 128), (0.29, 100, 29), (0.3, 7, 2)]
)
def test_a_top_k_share_is_exactly_the_decimal_that_is_written(topk, rows, expected):
    """0.29 of 100 is 29, though the float64 nearest 0.29 times 100 is less."""
    assert expected == BankConfig(DIT, topk=topk).kept(rows)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"topk": 0.0}, "above 0"),
        ({"topk": 1.5}, "above 0"),
        ({"topk": float("nan")}, "above 0"),
        ({"topk": 0.1}, "keeps none of 6 weights"),
        ({"num_prompts": 2}, "exactly one prompt"),
        ({"num_prompts": 0, "gate": GateKind.MIXTURE}, "0 prompts"),
        ({"gate_grid": 4}, "grid"),
        ({"prepended": -1}, "prompts before it"),
        ({"base": replace(DIT, kind="PixArtTransformer2DModel")}, "do not support"),
        ({"base": replace(DIT, sites=())}, "no blocks"),
        ({"base": replace(DIT, sites=DIT.sites[::-1])}, "must increase"),
        ({"base": replace(DIT, sites=(Site("transformer_blocks.1", 0, (6, 4)),))}, "not at depth"),
        ({"base": replace(DIT, sites=(Site("../x", 0, (6, 4)),))}, "has no block"),
        (
            {"base": replace(DIT, sites=(Site("transformer_blocks.0", 0, (6,)),))},
            "have shape",
        ),
        (
            {"base": replace(DIT, sites=(Site("transformer_blocks.0", 0, (0, 4)),))},
            "have shape",
        ),
        ({"base": replace(DIT, embedding_width=0)}, "must be positive"),
        ({"base": UNET}, "has a grid"),
        ({"base": UNET, "gate_grid": 0}, "cannot have side 0"),
        ({"base": UNET, "gate_grid": 4, "prepended": 1}, "of a DiT"),
        ({"base": FLUX, "prepended": 1}, "of a DiT"),
        ({"base": replace(FLUX, kind="SD3Transformer2DModel")}, "has no block"),
        ({"base": replace(FLUX, sites=LATE)}, "not at depth"),
    ],
)
def test_an_invalid_bank_config_is_refused(changes, problem):
    with pytest.raises(UsageError, match=problem):
        replace(BankConfig(DIT), **changes)


CONFIGS = [
    BankConfig(DIT),
    BankConfig(DIT, noisy=True, topk=0.5, gate_input=GateInput.TIME_AND_CLASS),
    BankConfig(DIT, gate=GateKind.MIXTURE, num_prompts=8, prepended=5),
    BankConfig(UNET, gate_grid=16, gate_input=GateInput.NONE),
    BankConfig(FLUX),
    BankConfig(UNET, gate=GateKind.MIXTURE, num_prompts=2),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_reads_back_as_it_was_written(config):
    assert config == parse_config(encode_config(config), "bank")


def test_the_names_of_the_fields_are_those_of_the_format():
    expected = {
        *("format", "peft_type", "base_class", "base_config", "base_digest", "blocks", "depths"),
        *("base_model_name_or_path", "gate", "gate_grid", "gate_input", "inference_mode", "noisy"),
        *("num_prompts", "num_train_timesteps", "prediction_type", "prepended", "sample_size"),
        *("shapes", "soupctl_version", "temb_dim", "topk"),
    }
    assert expected == config_fields(CONFIGS[0]).keys()


@pytest.mark.parametrize("field", sorted(config_fields(CONFIGS[0])))
def test_a_missing_field_is_refused(field):
    fields = config_fields(CONFIGS[0])
    del fields[field]

    with pytest.raises(InputError, match=r"^bank: "):
        parse_config(json.dumps(fields).encode(), "bank")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(CONFIGS), st.sampled_from(sorted(config_fields(CONFIGS[0]))), JSON)
def test_any_value_of_any_field_is_valid_or_refused_in_one_line(config, field, value):
    text = json.dumps({**config_fields(config), field: value}).encode("utf-8", "surrogatepass")

    try:
        read = parse_config(text, "bank")
    except InputError as error:
        line = str(error)

        assert line.startswith("bank: ")
        assert "\n" not in line
        assert len(line) < 2000
    else:
        assert read == parse_config(encode_config(read), "bank")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not valid JSON"),
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"peft_type": "LORA"}', "not a prompt bank: its peft_type is 'LORA'"),
        (b'{"peft_type": "SOUPCTL_DMP", "format": 2}', "format 2"),
        (b'{"peft_type": "SOUPCTL_DMP", "format": true}', "format True"),
    ],
)
def test_text_that_is_not_a_bank_config_is_refused(text, problem):
    with pytest.raises(InputError, match=problem):
        parse_config(text, "bank")


def test_an_unknown_field_is_refused():
    text = json.dumps({**config_fields(CONFIGS[0]), "prompt_proj": True}).encode()

    with pytest.raises(InputError, match="unknown field 'prompt_proj'"):
        parse_config(text, "bank")


def test_all_issues_of_a_config_are_reported_together():
    fields = {**config_fields(CONFIGS[0]), "gate": "open", "temb_dim": "4", "extra": 1}
    del fields["topk"]

    with pytest.raises(InputError) as refusal:
        parse_config(json.dumps(fields).encode(), "bank")

    expected = [
        "has no field topk",
        "has an unknown field 'extra'",
        "its gate is 'open', but must be one of token, mixture",
        "its temb_dim is '4', but must be a whole number",
    ]
    assert expected == [issue.what for issue in refusal.value.issues]


OTHER_SITES = (
    DIT.sites[0],
    Site("transformer_blocks.1", 1, (6, 4)),
    Site("transformer_blocks.2", 2, (6, 4)),
)


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        (replace(DIT, kind="UNet2DModel"), "class"),
        (replace(DIT, num_train_timesteps=500), "number of timesteps 1000, but the base has 500"),
        (replace(DIT, prediction_type="v_prediction"), "prediction epsilon"),
        (replace(DIT, sites=DIT.sites[:1]), "transformer_blocks.1: the base has no such block"),
        (replace(DIT, sites=(DIT.sites[0], replace(DIT.sites[1], shape=(6, 8)))), r"\[6, 8\]"),
        (replace(DIT, sites=(DIT.sites[0], replace(DIT.sites[1], depth=2))), "block 2 in the base"),
        (replace(DIT, embedding_width=8), "embedding width 4"),
        (replace(DIT, digest="blake3:e"), "different weights.*allow_base_mismatch=True"),
        (replace(DIT, config_digest="blake3:e"), "different config"),
    ],
)
def test_a_bank_refuses_another_base(base, problem):
    with pytest.raises(MismatchError, match=f"^bank: .*{problem}"):
        require_fit(BankConfig(DIT), base, "bank")


def test_a_bank_fits_its_base_a_base_with_more_blocks_and_one_with_unknown_facts():
    config = BankConfig(DIT)

    require_fit(config, DIT, "bank")
    require_fit(config, replace(DIT, sites=OTHER_SITES, name="other"), "bank")
    unknown = replace(DIT, digest=None, num_train_timesteps=None, prediction_type=None)
    require_fit(config, unknown, "bank")


def test_only_the_digests_of_a_base_may_be_allowed_to_differ():
    tuned = replace(DIT, digest="blake3:e", config_digest="blake3:f")
    require_fit(BankConfig(DIT), tuned, "bank", allow_base_mismatch=True)

    shorter = replace(tuned, num_train_timesteps=500)
    with pytest.raises(MismatchError, match="timesteps"):
        require_fit(BankConfig(DIT), shorter, "bank", allow_base_mismatch=True)


def test_banks_for_different_blocks_of_one_base_have_the_same_base():
    first = BankConfig(replace(DIT, sites=DIT.sites[:1]))
    other = BankConfig(replace(DIT, sites=DIT.sites[1:]))

    require_same_base(first, other, "other")
    with pytest.raises(MismatchError, match="different weights"):
        require_same_base(first, BankConfig(replace(DIT, digest="blake3:e")), "other")
