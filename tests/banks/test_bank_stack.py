"""Several banks at once: their outputs add up, and each can be taken out as if never there."""

from dataclasses import replace
from fractions import Fraction

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.banks.bank import PromptBank
from soupctl.banks.config import BankConfig, GateInput, GateKind
from soupctl.banks.stack import BankStack
from soupctl.errors import LedgerError, MismatchError, UsageError


def banks_of(base):
    """Banks that have little in common but the base."""
    return {
        "c": bases.filled_bank(base, seed=1),
        "a": bases.filled_bank(base, seed=2, gate=GateKind.MIXTURE, num_prompts=2),
        "b.x": bases.filled_bank(base, seed=3, gate_input=GateInput.TIME_AND_CLASS, blocks=2),
    }


WEIGHTS = {"a": Fraction(1, 3), "b.x": Fraction(-2), "c": Fraction(1)}


def stacked(base, stack):
    with attach(base, stack):
        return bases.output(base)


def test_a_stack_adds_the_weighted_sum_of_its_banks(base):
    banks = banks_of(base)
    stack = BankStack(banks, WEIGHTS)
    inputs = {}

    def record(module, args, kwargs):
        inputs["hidden"] = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]

    first = next(iter(banks["a"].sites))
    block = base.get_submodule(first)
    with attach(base, stack) as attachment:
        block.register_forward_pre_hook(record, with_kwargs=True)
        bases.output(base)
        patched = inputs["hidden"]
        embeddings = attachment._embeddings.last()
        deltas = {
            name: bank.delta(first, embeddings[bank.config.gate_input])
            for name, bank in banks.items()
        }
    bases.output(base)
    added = deltas["a"] / 3 - 2 * deltas["b.x"] + deltas["c"]

    torch.testing.assert_close(inputs["hidden"] + added, patched)


def test_a_stack_of_one_is_that_one(base):
    bank = bases.filled_bank(base)

    assert bases.same_bits(stacked(base, bank), stacked(base, BankStack({"only": bank})))


def test_the_order_in_which_banks_are_given_does_not_show(base):
    banks = banks_of(base)
    other = BankStack(dict(reversed(banks.items())), WEIGHTS)

    assert bases.same_bits(stacked(base, BankStack(banks, WEIGHTS)), stacked(base, other))


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_stack_without_a_member_is_to_the_bit_the_one_that_never_held_it(base, name):
    banks = banks_of(base)
    rest = {other: bank for other, bank in banks.items() if other != name}
    never = BankStack(rest, {other: WEIGHTS[other] for other in rest})
    without = BankStack(banks, WEIGHTS).without(name)

    assert never.weights == without.weights
    assert bases.same_bits(stacked(base, never), stacked(base, without))
    assert not torch.equal(stacked(base, BankStack(banks, WEIGHTS)), stacked(base, without))


def test_a_stack_leaves_its_members_as_they_are(base):
    banks = banks_of(base)
    before = {
        name: {k: v.clone() for k, v in bank.tensors().items()} for name, bank in banks.items()
    }
    stack = BankStack(banks, WEIGHTS)
    stacked(base, stack)

    for member in stack.members:
        assert member.bank is banks[member.name]
        for name, tensor in member.bank.tensors().items():
            assert bases.same_bits(before[member.name][name], tensor)


def test_a_stack_is_moved_with_its_members():
    banks = banks_of(bases.dit())
    stack = BankStack(banks)

    assert {id(each) for bank in banks.values() for each in bank.parameters()} == {
        id(each) for each in stack.parameters()
    }


def test_with_equal_gates_and_weights_of_a_mean_a_stack_is_the_average_of_the_prompts(base):
    """What makes averaging exact where banks share a gate."""
    one, two = bases.filled_bank(base, seed=1), bases.filled_bank(base, seed=2)
    two.gate.load_state_dict(one.gate.state_dict())
    mean = bases.zero_bank(base)
    for name, tensor in mean.tensors().items():
        tensor.copy_((one.tensors()[name] + two.tensors()[name]) / 2)
    half = Fraction(1, 2)
    stack = BankStack({"one": one, "two": two}, {"one": half, "two": half})

    torch.testing.assert_close(stacked(base, mean), stacked(base, stack))


def test_banks_that_cannot_be_stacked_are_refused():
    base = bases.dit()
    bank, other = bases.zero_bank(base), bases.zero_bank(bases.dit(layers=2))
    prepended = bases.zero_bank(base, prepended=2)
    shorter = PromptBank(BankConfig(replace(bank.config.base, num_train_timesteps=500)))
    longer = PromptBank(BankConfig(replace(bank.config.base, num_train_timesteps=1000)))

    with pytest.raises(UsageError, match="at least one bank"):
        BankStack({})
    with pytest.raises(UsageError, match="a: has a weight of zero"):
        BankStack({"a": bank}, {"a": Fraction(0)})
    with pytest.raises(UsageError, match="different names"):
        BankStack({"a": bank}, {"b": Fraction(1)})
    with pytest.raises(UsageError, match="b: has prepended prompts"):
        BankStack({"a": bank, "b": prepended})
    with pytest.raises(MismatchError, match="b: was trained on a base with different config"):
        BankStack({"a": bank, "b": other})
    with pytest.raises(MismatchError, match="b: was trained for number of timesteps 500"):
        BankStack({"a": longer, "b": shorter})


def test_a_bank_that_a_stack_lacks_and_its_last_bank_cannot_be_removed():
    stack = BankStack({"a": bases.zero_bank(bases.dit())})

    with pytest.raises(LedgerError, match="b: is not in the stack"):
        stack.without("b")
    with pytest.raises(UsageError, match="a: is the only"):
        stack.without("a")
