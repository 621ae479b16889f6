"""What gates say is found once a pass, and never taken from another pass."""

from __future__ import annotations

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.banks.config import GateInput
from soupctl.banks.gates import Gate

INPUTS = pytest.mark.parametrize("gate_input", GateInput)


@INPUTS
def test_a_pass_without_gradients_is_the_pass_with_them(base, gate_input):
    bank = bases.filled_bank(base, gate_input=gate_input)
    arguments = bases.inputs(base)
    with attach(base, bank):
        expected = base(**arguments).sample.detach()
        with torch.no_grad():
            found = base(**arguments).sample

    assert bases.same_bits(expected, found)


@INPUTS
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_gate_is_asked_once_for_each_block(base, gate_input, mode, monkeypatch):
    asked = []
    forward = Gate.forward

    def counted(gate, *arguments):
        asked.append(gate)
        return forward(gate, *arguments)

    monkeypatch.setattr(Gate, "forward", counted)
    bank = bases.filled_bank(base, gate_input=gate_input)
    with attach(base, bank), mode():
        base(**bases.inputs(base))

    assert len(bank.sites) == len(asked)


@INPUTS
def test_each_pass_uses_its_own_timesteps_and_the_current_weights(base, gate_input):
    bank = bases.filled_bank(base, gate_input=gate_input)
    first, second = bases.inputs(base), bases.inputs(base, (4, 4, 500))
    with attach(base, bank), torch.no_grad():
        base(**first)
        base(**second)
        for parameter in bank.parameters():
            parameter.mul_(2)
        found = base(**first).sample
    with attach(base, bank), torch.no_grad():
        expected = base(**first).sample

    assert bases.same_bits(expected, found)
