"""Banks at work: what they add, what they leave alone, and that nothing remains of them."""

from __future__ import annotations

import copy

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.banks.config import GateInput


@pytest.mark.parametrize("options", bases.OPTIONS, ids=str)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_zero_bank_changes_no_bit_of_the_output(base, options, mode):
    """In training, too, where a DiT drops labels at random: a bank disturbs no random numbers."""
    base.train(mode == "train")
    bank = bases.zero_bank(base, **options)
    torch.manual_seed(1)
    expected = bases.output(base)
    torch.manual_seed(1)
    with attach(base, bank) as attachment, attachment.noise(bases.noise_for(bank)):
        found = bases.output(base)

    assert bases.same_bits(expected, found)


@pytest.mark.parametrize(("name", "options"), bases.EVERY_WAY, ids=str)
def test_removal_restores_every_bit_and_leaves_nothing_behind(name, options):
    base = bases.BUILDERS[name]()
    hooks = [(len(each._forward_pre_hooks), len(each._forward_hooks)) for each in base.modules()]
    names = list(base.state_dict())
    expected = bases.output(base)

    attachment = attach(base, bases.filled_bank(base, **options))
    patched = bases.output(base)
    assert names == list(base.state_dict())
    attachment.remove()
    attachment.remove()

    assert not torch.equal(expected, patched)
    assert bases.same_bits(expected, bases.output(base))
    assert hooks == [
        (len(each._forward_pre_hooks), len(each._forward_hooks)) for each in base.modules()
    ]


def test_an_error_inside_the_block_removes_the_bank_as_well(base):
    expected = bases.output(base)
    with pytest.raises(KeyboardInterrupt), attach(base, bases.filled_bank(base)):
        raise KeyboardInterrupt

    assert bases.same_bits(expected, bases.output(base))


def test_prompts_are_added_to_the_input_of_each_block(base):
    bank = bases.filled_bank(base)
    before, after = {}, {}
    blocks = {name: base.get_submodule(name) for name in bank.sites}
    seen = [
        each.register_forward_pre_hook(recorder(before, name), with_kwargs=True)
        for name, each in blocks.items()
    ]
    with attach(base, bank) as attachment:
        seen += [
            each.register_forward_pre_hook(recorder(after, name), with_kwargs=True)
            for name, each in blocks.items()
        ]
        bases.output(base)
        embedding = attachment._embeddings.last()[GateInput.TIME]
    for each in seen:
        each.remove()

    assert list(bank.sites) == list(after)
    for name in bank.sites:
        assert torch.equal(before[name] + bank.delta(name, embedding), after[name])


def recorder(into, name):
    def record(module, args, kwargs):
        into[name] = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]

    return record


@pytest.mark.parametrize("options", bases.OPTIONS, ids=str)
def test_the_input_of_the_first_block_is_not_modified(base, options):
    """In a UNet, the same tensor is the first skip connection."""
    kept = {}
    embedders = ("conv_in", "x_embedder", "pos_embed")
    first = next(getattr(base, name) for name in embedders if hasattr(base, name))
    first.register_forward_hook(
        lambda module, args, output: kept.update(tensor=output, copy=output.clone())
    )
    bank = bases.filled_bank(base, **options)
    with attach(base, bank):
        bases.output(base)
        before = copy.deepcopy(bank.tensors())
        bases.output(base)

    assert torch.equal(kept["copy"], kept["tensor"])
    assert all(torch.equal(before[name], tensor) for name, tensor in bank.tensors().items())


def test_a_base_in_bfloat16_takes_a_bank_in_float32(base):
    base.to(torch.bfloat16)
    bank = bases.filled_bank(base)
    inputs = torch.utils._pytree.tree_map(
        lambda each: each.bfloat16() if each.is_floating_point() else each, bases.inputs(base)
    )
    expected = base(**inputs).sample
    with attach(base, bases.zero_bank(base)):
        assert torch.equal(expected, base(**inputs).sample)
    with attach(base, bank):
        found = base(**inputs).sample

    assert torch.bfloat16 == found.dtype
    assert not torch.equal(expected, found)


@pytest.mark.parametrize("build", [bases.dit_pipeline, bases.unet_pipeline])
def test_a_model_inside_a_pipeline_is_patched_and_restored(build):
    pipeline = build()
    model = pipeline.transformer if build is bases.dit_pipeline else pipeline.unet

    expected = bases.pictures(pipeline)
    with attach(model, bases.zero_bank(model)):
        zero = bases.pictures(pipeline)
    with attach(model, bases.filled_bank(model)):
        patched = bases.pictures(pipeline)

    assert expected.tobytes() == zero.tobytes()
    assert expected.tobytes() != patched.tobytes()
    assert expected.tobytes() == bases.pictures(pipeline).tobytes()


def test_prompts_go_before_the_sequence_and_are_replaced_at_each_block():
    """Against the same computed block by block, without hooks."""
    base = bases.dit()
    bank = bases.filled_bank(base, prepended=2)
    inputs = bases.inputs(base)
    times, labels = inputs["timestep"], inputs["class_labels"]
    embedder = base.transformer_blocks[0].norm1.emb
    embedding = embedder.timestep_embedder(embedder.time_proj(times))
    hidden = base.pos_embed(inputs["hidden_states"])
    for depth, block in enumerate(base.transformer_blocks):
        prompts = bank.delta(f"transformer_blocks.{depth}", embedding)
        hidden = torch.cat([prompts, hidden if depth == 0 else hidden[:, 2:]], dim=1)
        hidden = block(hidden, timestep=times, class_labels=labels)
    expected = hidden[:, 2:]

    heads = []
    base.norm_out.register_forward_pre_hook(lambda module, args: heads.append(args[0]))
    with attach(base, bank):
        bases.output(base)

    assert torch.equal(expected, heads[0])


def test_blocks_without_prompts_stay_as_they_are():
    base = bases.dit()
    bank = bases.filled_bank(base, blocks=1)
    expected = bases.filled_bank(base)
    assert ["transformer_blocks.0"] == list(bank.sites)
    for name in ("transformer_blocks.1", "transformer_blocks.2"):
        expected.tensors()[f"prompts.{name}"].zero_()
    for name, tensor in bank.tensors().items():
        expected.tensors()[name].copy_(tensor)

    with attach(base, bank):
        found = bases.output(base)
    with attach(base, expected):
        assert torch.equal(bases.output(base), found)
