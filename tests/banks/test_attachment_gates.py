"""What the gates of attached banks look at, and what they tell of a pass."""

from __future__ import annotations

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.banks.config import GateInput


@pytest.mark.parametrize("gate_input", GateInput)
def test_a_gate_looks_at_the_class_only_if_it_is_to(gate_input):
    for base in (bases.dit(), bases.class_unet()):
        bank = bases.filled_bank(base, gate_input=gate_input)
        with attach(base, bank) as attachment:
            weights = []
            for labels in ([0, 1, 2], [2, 1, 0]):
                bases.output(base, class_labels=torch.tensor(labels))
                weights.append(next(iter(attachment.gate_outputs(bank).values())).weights)

        is_same = torch.equal(weights[0], weights[1])
        assert (gate_input is not GateInput.TIME_AND_CLASS) == is_same


def test_a_gate_without_input_gives_a_block_the_same_weights_at_all_times(base):
    bank = bases.filled_bank(base, gate_input=GateInput.NONE)
    with attach(base, bank) as attachment:
        bases.output(base)
        blocks = [each.weights for each in attachment.gate_outputs(bank).values()]
        with torch.inference_mode():
            bases.output(base)

    assert all(torch.equal(weights, weights[:1].expand_as(weights)) for weights in blocks)
    assert not torch.equal(blocks[0], blocks[-1])


def test_the_gates_of_the_loss_are_those_of_the_pass(base):
    for gate_input in GateInput:
        bank = bases.filled_bank(base, gate_input=gate_input, noisy=True)
        used = {}
        own = bank.gate_output
        bank.gate_output = lambda block, *rest, own=own, used=used: used.setdefault(
            block, own(block, *rest)
        )
        with attach(base, bank) as attachment, attachment.noise(bases.noise_for(bank)):
            bases.output(base)
            bank.gate_output = own
            for name, gated in attachment.gate_outputs(bank).items():
                assert torch.equal(used[name].weights, gated.weights)


def test_gates_cannot_be_told_before_a_pass(base):
    bank = bases.zero_bank(base)
    with attach(base, bank) as attachment, pytest.raises(ValueError, match="no forward pass"):
        attachment.gate_outputs(bank)


@pytest.mark.parametrize("options", [*bases.OPTIONS, {"prepended": 2}], ids=str)
def test_one_timestep_for_a_whole_batch_is_as_good_as_one_for_each(options):
    base = bases.dit()
    one = {"timestep": torch.tensor([250]), "class_labels": torch.tensor([1])}
    each = {name: argument.expand(bases.BATCH) for name, argument in one.items()}
    with attach(base, bases.filled_bank(base, **options)):
        torch.testing.assert_close(bases.output(base, **each), bases.output(base, **one))


def test_an_embedding_is_computed_once_a_pass_and_anew_for_the_next():
    base = bases.dit()
    bank = bases.filled_bank(base)
    embedder = base.transformer_blocks[0].norm1.emb.timestep_embedder
    inputs = bases.inputs(base)
    calls = []
    embedder.register_forward_pre_hook(lambda *arguments: calls.append(arguments))
    base(**inputs)
    without = len(calls)
    with attach(base, bank):
        for passes in (1, 2):
            base(**inputs)
            assert (passes + 1) * without + passes == len(calls)


@pytest.mark.parametrize("options", bases.OPTIONS, ids=str)
def test_a_bank_computes_in_float32_under_autocast(base, options):
    bank = bases.filled_bank(base, **options)
    site = bank.config.base.sites[-1]
    embeddings = torch.randn(3, bank.config.base.embedding_width)
    expected = bank.delta(site.name, embeddings)
    with torch.autocast("cpu", torch.bfloat16):
        found = bank.delta(site.name, embeddings)

    assert torch.equal(expected, found)
