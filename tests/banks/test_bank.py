from math import floor

import bases
import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel

from soupctl.banks.bank import PromptBank
from soupctl.banks.blocks import base_parameters, describe_base
from soupctl.banks.config import BankConfig, GateKind
from soupctl.errors import MismatchError

PUBLISHED = [
    # DiT-B/2, DiT-L/2, DiT-XL/2: heads, width of a head, blocks; parameters added, per cent
    (12, 64, 12, 2_556_416, 1.96),
    (16, 64, 24, 6_554_112, 1.43),
    (16, 72, 28, 8_552_960, 1.26),
]


@pytest.mark.parametrize(("heads", "width", "blocks", "added", "per_cent"), PUBLISHED)
def test_a_bank_has_as_many_parameters_as_the_published_one(heads, width, blocks, added, per_cent):
    """The published shares are cut after two digits: 1.9617, 1.4315 and 1.2674.

    Rounded, the last one is 1.27; the other two are the same either way.
    """
    with torch.device("meta"):
        model = DiTTransformer2DModel(
            num_attention_heads=heads, attention_head_dim=width, num_layers=blocks, out_channels=8
        )
        bank = PromptBank(BankConfig(describe_base(model), noisy=True))
    noise = sum(gate.noise.numel() for gate in bank.gate.values())
    count = sum(parameter.numel() for parameter in bank.parameters()) - noise

    assert added == count == bank.config.parameters
    assert per_cent == floor(10_000 * count / base_parameters(model)) / 100


def test_stable_diffusion_has_nine_blocks_and_a_gate_that_does_not_outgrow_the_prompts():
    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    config = BankConfig(describe_base(model), gate_grid=16)

    assert [
        (320, 64, 64),
        (320, 32, 32),
        (640, 16, 16),
        *[(1280, 8, 8)] * 3,
        (1280, 16, 16),
        (1280, 32, 32),
        (640, 64, 64),
    ] == [site.shape for site in config.base.sites]
    assert (64, 256) == config.gates
    assert 6_307_840 == sum(site.shape[0] * site.shape[1] ** 2 for site in config.base.sites)
    # two gates of 1281 numbers and a bias a row
    assert 6_307_840 + (64 + 256) * 1282 == config.parameters


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"addition_embed_type": "text_time", "addition_time_embed_dim": 4}, None),
        ({"class_embed_type": "projection"}, None),
        ({"class_embed_type": "timestep"}, None),
        ({"encoder_hid_dim": 10, "encoder_hid_dim_type": "text_proj"}, None),
        ({"addition_embed_type": "image", "encoder_hid_dim": 10}, "addition_embed_type 'image'"),
    ],
)
def test_blocks_are_found_whatever_the_base_is_conditioned_on(extra, expected):
    with torch.device("meta"):
        model = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(4, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=6,
            norm_num_groups=2,
            attention_head_dim=2,
            projection_class_embeddings_input_dim=40,
            **extra,
        )
    if expected is None:
        assert 5 == len(describe_base(model).sites)
    else:
        with pytest.raises(MismatchError, match=expected):
            describe_base(model)


def test_a_model_that_is_no_base_is_refused():
    with pytest.raises(MismatchError, match="do not support Linear"):
        describe_base(torch.nn.Linear(2, 2))


def test_the_shapes_follow_the_size_of_the_image():
    base = describe_base(bases.class_unet(), sample_size=(8, 16))

    assert (8, 16) == base.sample_size
    assert (4, 8, 16) == base.sites[0].shape


def test_a_base_is_described_without_being_touched(base):
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    was_random = torch.get_rng_state()
    base.train()

    describe_base(base, sample_size=(8, 8))

    assert base.training
    assert torch.equal(was_random, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in base.state_dict().items())
    assert not any(module._forward_pre_hooks for module in base.modules())


def test_the_config_digest_tells_models_apart_and_not_versions_of_a_library(monkeypatch):
    first = describe_base(bases.dit()).config_digest
    again = bases.dit(seed=2)
    # what a newer library would write, and a model that was saved and loaded
    again.register_to_config(_name_or_path="elsewhere", option_of_tomorrow=1)

    assert first == describe_base(again).config_digest
    assert first != describe_base(bases.dit(layers=2)).config_digest


@pytest.mark.parametrize("options", [{}, {"noisy": True}, {"gate": GateKind.MIXTURE}])
def test_a_new_bank_is_zero_everywhere_in_float32(base, options):
    tensors = bases.zero_bank(base, **options).tensors()

    assert all(not tensor.any() for tensor in tensors.values())
    assert {torch.float32} == {tensor.dtype for tensor in tensors.values()}


@pytest.mark.parametrize(
    "options", [{}, {"noisy": True, "topk": 0.5}, {"gate": GateKind.MIXTURE, "num_prompts": 3}]
)
def test_a_bank_has_the_tensors_that_its_config_names(base, options):
    bank = bases.zero_bank(base, **options)

    assert dict(bank.config.tensors) == {
        name: tuple(tensor.shape) for name, tensor in bank.tensors().items()
    }
    assert len(bank.tensors()) == len(list(bank.parameters()))


EMBEDDINGS = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))


def test_a_token_bank_weighs_each_position_of_its_prompt():
    bank = bases.filled_bank(bases.dit())
    weights = bank.gate_output("transformer_blocks.1", EMBEDDINGS).weights
    prompt = bank.tensors()["prompts.transformer_blocks.1"]

    expected = torch.einsum("bn,nd->bnd", weights, prompt)
    torch.testing.assert_close(expected, bank.delta("transformer_blocks.1", EMBEDDINGS))


def test_a_mixture_is_the_weighted_sum_of_whole_prompts(base):
    bank = bases.filled_bank(base, gate=GateKind.MIXTURE, num_prompts=4)
    site = bank.config.base.sites[1]
    embeddings = torch.randn(3, bank.config.base.embedding_width)
    weights = bank.gate_output(site.name, embeddings).weights
    prompts = bank.tensors()[f"prompts.{site.name}"]

    expected = torch.stack(
        [sum(w * p for w, p in zip(row, prompts, strict=True)) for row in weights]
    )
    torch.testing.assert_close(expected, bank.delta(site.name, embeddings), rtol=1e-5, atol=1e-5)


def test_a_position_of_a_unet_is_weighed_by_the_cell_it_lies_in():
    bank = bases.filled_bank(bases.class_unet(), gate_grid=4)
    site = bank.config.base.sites[0]
    embeddings = torch.randn(3, bank.config.base.embedding_width)
    weights = bank.gate_output(site.name, embeddings).weights.unflatten(1, (4, 4))
    prompts = bank.tensors()[f"prompts.{site.name}"]

    delta = bank.delta(site.name, embeddings)

    assert (4, 8, 8) == site.shape
    for row in range(8):
        for column in range(8):
            cell = weights[:, row // 2, column // 2]
            expected = cell[:, None] * prompts[:, row, column]
            torch.testing.assert_close(expected, delta[:, :, row, column])


def test_the_scale_multiplies_the_added_prompts(base):
    bank = bases.filled_bank(base)
    site = bank.config.base.sites[0]
    embeddings = torch.randn(3, bank.config.base.embedding_width)

    # a power of two, so that nothing is rounded
    assert torch.equal(
        bank.delta(site.name, embeddings) * 0.25, bank.delta(site.name, embeddings, 0.25)
    )


def test_the_gate_learns_as_many_times_as_fast_as_asked():
    bank = bases.zero_bank(bases.dit(), noisy=True)
    prompts, gates = bank.parameter_groups(1e-4, 10)

    assert (1e-4, 1e-4 * 10) == (prompts["lr"], gates["lr"])
    assert set(bank.parameters()) == {*prompts["params"], *gates["params"]}
    assert (3, 3) == (len(prompts["params"]), len(gates["params"]))


def test_a_gate_that_was_taken_is_the_same_and_does_not_learn(base):
    bank, other = bases.zero_bank(base, noisy=True), bases.filled_bank(base, noisy=True)
    bank.copy_gate(other)
    (prompts,) = bank.parameter_groups(1e-4, 10)

    for name, tensor in bank.tensors().items():
        expected = torch.zeros_like(tensor) if "prompts" in name else other.tensors()[name]
        assert bases.same_bits(expected, tensor)
    assert not any(each.requires_grad for each in bank.gate.parameters())
    assert len(bank.sites) == len(prompts["params"])


@pytest.mark.parametrize(
    ("options", "field"),
    [({"topk": 0.5}, "topk"), ({"noisy": True}, "noisy"), ({"prepended": 2}, "weights")],
)
def test_a_gate_of_another_kind_is_not_taken(options, field):
    bank = bases.zero_bank(bases.dit())

    with pytest.raises(MismatchError, match=f"gates differ in {field}, so"):
        bank.copy_gate(bases.zero_bank(bases.dit(), **options))
