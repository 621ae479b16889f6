"""Gradients through attached banks: which numbers learn, and that recomputing changes none."""

from __future__ import annotations

import copy

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.banks.config import GateInput
from soupctl.banks.gates import Balance, balance_loss


def test_no_gradient_reaches_a_frozen_base_and_its_numbers_do_not_change(base):
    base.requires_grad_(False)
    before = copy.deepcopy(base.state_dict())
    bank = bases.filled_bank(base)
    optimizer = torch.optim.AdamW(bank.parameter_groups(1e-2, 10), weight_decay=0.0)
    with attach(base, bank):
        for _ in range(3):
            optimizer.zero_grad()
            bases.output(base).square().mean().backward()
            optimizer.step()

    assert all(parameter.grad is None for parameter in base.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in bank.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in base.state_dict().items())


@pytest.mark.parametrize("gate_input", GateInput)
def test_no_gradient_goes_through_a_gate_into_a_base_that_is_not_frozen(base, gate_input):
    bank = bases.filled_bank(base, gate_input=gate_input)
    with attach(base, bank) as attachment:
        bases.output(base)
        balance_loss(attachment.gate_outputs(bank).values(), Balance.OVER_BATCH).backward()

    assert all(parameter.grad is None for parameter in base.parameters())


@pytest.mark.parametrize("options", bases.OPTIONS, ids=str)
def test_at_the_first_step_prompts_learn_and_the_gate_does_not(base, options):
    base.requires_grad_(False)
    bank = bases.zero_bank(base, **options)
    with attach(base, bank) as attachment, attachment.noise(bases.noise_for(bank)):
        bases.output(base).square().mean().backward()

    assert all(each.grad.abs().max() > 0 for each in bank.prompts.values())
    assert all(not each.grad.any() for each in bank.gate.parameters())


def test_gates_vary_with_time_once_they_have_learned(base):
    base.requires_grad_(False)
    bank = bases.zero_bank(base)
    optimizer = torch.optim.AdamW(bank.parameter_groups(1e-2, 10), weight_decay=0.0)
    with attach(base, bank) as attachment:
        for _ in range(5):
            optimizer.zero_grad()
            bases.output(base).square().mean().backward()
            optimizer.step()
        gated = attachment.gate_outputs(bank)

    # the samples of a batch have different timesteps
    assert all(each.weights.std(dim=0).max() > 0 for each in gated.values())


def gradients(base, bank, noise):
    """Those of two passes of different timesteps, whose backward passes come together."""
    bank.zero_grad()
    with attach(base, bank) as attachment, attachment.noise(noise):
        one = bases.output(base)
        other = bases.output(base, timestep=torch.tensor([500, 1, 30]))
        (one.square().mean() + other.pow(3).mean()).backward()
        balance_loss(attachment.gate_outputs(bank).values(), Balance.AS_CODED).backward()
    return [parameter.grad.clone() for parameter in bank.parameters()]


@pytest.mark.parametrize(("name", "options"), bases.EVERY_WAY, ids=str)
def test_gradient_checkpointing_changes_no_gradient(name, options):
    base = bases.BUILDERS[name]()
    bank = bases.filled_bank(base, **options)
    base.requires_grad_(False)
    noise = bases.noise_for(bank)
    calls = []
    inner = {"dit": "transformer_blocks.0.attn1", "sd3": "transformer_blocks.0.attn"}
    inner["flux"] = "single_transformer_blocks.0.attn"
    base.get_submodule(inner.get(name, "down_blocks.0.resnets.0")).register_forward_pre_hook(
        lambda *arguments: calls.append(arguments)
    )
    expected = gradients(base, bank, noise)
    assert 2 == len(calls)

    base.enable_gradient_checkpointing()
    found = gradients(base, bank, noise)

    # each of two passes was computed again
    assert 2 + 4 == len(calls)
    assert any(each.abs().max() > 0 for each in expected)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))
