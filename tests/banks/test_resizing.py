"""Banks on images of another size: what is added is interpolated, and nothing else changes."""

from __future__ import annotations

from fractions import Fraction

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.banks.config import GateKind
from soupctl.banks.resizing import resized
from soupctl.banks.stack import BankStack
from soupctl.diffusion.families import flux
from soupctl.errors import MismatchError

SQUARE = [[0.0, 4.0], [8.0, 12.0]]
# a quarter and three quarters of the way between two positions, and the outer ones as they are
LARGER = [
    [0.0, 1.0, 3.0, 4.0],
    [2.0, 3.0, 5.0, 6.0],
    [6.0, 7.0, 9.0, 10.0],
    [8.0, 9.0, 11.0, 12.0],
]


def of_size(model, side):
    """The usual inputs, but of another size."""
    generator = torch.Generator().manual_seed(9)
    name = "sample" if "sample" in bases.inputs(model) else "hidden_states"
    sample = torch.randn(bases.BATCH, 2, side, side, generator=generator)
    if "img_ids" in bases.inputs(model):
        rows = side // flux.SIDE
        return {name: flux.pack(sample), "img_ids": flux.positions(sample, rows, rows)}
    return {name: sample}


def test_positions_between_two_are_between_them():
    maps = torch.tensor([[SQUARE]])

    assert torch.equal(torch.tensor([[LARGER]]), resized(maps, (1, 4, 4)))
    # as many as there were are the mean of four each
    smaller = torch.tensor([[[[1.5, 4.5], [7.5, 10.5]]]])
    assert torch.equal(smaller, resized(torch.tensor([[LARGER]]), (1, 2, 2)))


def test_tokens_are_taken_in_reading_order():
    tokens = torch.tensor([SQUARE]).reshape(1, 4, 1).expand(2, 4, 3)
    expected = torch.tensor(LARGER).reshape(1, 16, 1).expand(2, 16, 3)

    assert torch.equal(expected, resized(tokens, (16, 3)))


@pytest.mark.parametrize("side", [4, 16])
@pytest.mark.parametrize("name", bases.BUILDERS)
def test_a_constant_keeps_its_value_when_resized(name, side):
    """Though a softmax over four times as many positions would be a quarter each."""
    base = bases.BUILDERS[name]()
    bank = bases.zero_bank(base)
    site = bank.config.base.sites[0]
    for prompts in bank.prompts.values():
        prompts.data.fill_(3.0)
    added = added_at(base, bank, site.name, side)

    torch.testing.assert_close(
        torch.full_like(added, 3.0 / bank.config.rows(site)), added, rtol=0, atol=1e-5
    )


def added_at(base, bank, block, side):
    """What a bank adds to the input of the first block, which is else that of the base."""
    plain = input_of(base, block, side)
    with attach(base, bank, resize_prompts_to=(side, side)):
        return input_of(base, block, side) - plain


def input_of(base, block, side):
    found = []

    def record(module, args, kwargs):
        found.append(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

    hook = base.get_submodule(block).register_forward_pre_hook(record, with_kwargs=True)
    with torch.no_grad():
        bases.output(base, **of_size(base, side))
    hook.remove()
    return found[0]


@pytest.mark.parametrize("options", [{}, {"gate": GateKind.MIXTURE, "num_prompts": 2}], ids=str)
def test_resized_prompts_add_the_interpolated_values(base, options):
    bank = bases.filled_bank(base, **options)
    site = bank.config.base.sites[0]
    own = added_at(base, bank, site.name, 8)
    shape = (own.shape[1] * 4, own.shape[2]) if own.dim() == 3 else (own.shape[1], 16, 16)

    found = added_at(base, bank, site.name, 16)
    torch.testing.assert_close(resized(own, shape), found, rtol=1e-4, atol=1e-5)


def test_at_its_own_size_no_bit_changes(base):
    bank = bases.filled_bank(base)
    with attach(base, bank):
        expected = bases.output(base)
    with attach(base, bank, resize_prompts_to=(8, 8)):
        assert bases.same_bits(expected, bases.output(base))


def test_a_zero_bank_changes_nothing_at_any_size_and_is_removed(base):
    expected = bases.output(base, **of_size(base, 16))
    with attach(base, bases.zero_bank(base), resize_prompts_to=(16, 16)):
        assert bases.same_bits(expected, bases.output(base, **of_size(base, 16)))
    with attach(base, bases.filled_bank(base), resize_prompts_to=(16, 16)):
        assert not torch.equal(expected, bases.output(base, **of_size(base, 16)))

    assert bases.same_bits(expected, bases.output(base, **of_size(base, 16)))


def test_a_stack_adds_as_much_as_its_banks_at_any_size(base):
    one, two = bases.filled_bank(base, seed=1), bases.filled_bank(base, seed=2)
    stack = BankStack({"one": one, "two": two}, {"one": Fraction(1), "two": Fraction(-2)})
    name = one.config.base.sites[0].name

    expected = added_at(base, one, name, 16) - 2 * added_at(base, two, name, 16)
    torch.testing.assert_close(expected, added_at(base, stack, name, 16), rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient_at_another_size(base):
    bank = bases.filled_bank(base)
    base.requires_grad_(False)

    def gradients():
        bank.zero_grad()
        with attach(base, bank, resize_prompts_to=(16, 16)):
            bases.output(base, **of_size(base, 16)).square().mean().backward()
        return [each.grad.clone() for each in bank.parameters()]

    expected = gradients()
    base.enable_gradient_checkpointing()

    assert all(each.abs().max() > 0 for each in expected)
    assert all(torch.equal(*pair) for pair in zip(expected, gradients(), strict=True))


def test_prompts_before_a_sequence_have_no_size():
    base = bases.dit()
    bank = bases.filled_bank(base, prepended=2)
    plain = bases.output(base, **of_size(base, 16))
    with attach(base, bank, resize_prompts_to=(16, 16)):
        patched = bases.output(base, **of_size(base, 16))

    assert plain.shape == patched.shape
    assert not torch.equal(plain, patched)


def test_any_other_size_than_asked_is_refused(base):
    bank = bases.filled_bank(base)
    refused = pytest.raises(MismatchError, match="attach with resize_prompts_to")
    with attach(base, bank, resize_prompts_to=(16, 16)), refused:
        bases.output(base)


@pytest.mark.parametrize(
    ("build", "size", "problem"),
    [
        (bases.dit, (8, 16), "makes only square images, not 8 by 16"),
        (bases.class_unet, (7, 7), "cannot process inputs of 7 by 7"),
    ],
)
def test_a_size_that_the_base_cannot_take_is_refused(build, size, problem):
    base = build()
    with pytest.raises(MismatchError, match=problem):
        attach(base, bases.zero_bank(base), resize_prompts_to=size)
