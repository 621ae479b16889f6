"""Banks attached to compiled bases: they are there when they should be, and not after."""

from __future__ import annotations

import bases
import pytest
import torch

from soupctl.banks.attachment import attach
from soupctl.banks.blocks import blocks_of


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(("name", "backend"), [("dit", "aot_eager"), ("class_unet", "eager")])
def test_a_compiled_base_is_patched_and_restored_even_if_it_has_run_before(name, backend):
    base = bases.BUILDERS[name]()
    bank = bases.filled_bank(base)
    compiled = torch.compile(base, backend=backend, fullgraph=True)
    with torch.no_grad():
        expected = bases.output(base)
        with attach(base, bank):
            patched = bases.output(base)

        torch.testing.assert_close(expected, bases.output_of(compiled, base))
        with attach(compiled, bank):
            torch.testing.assert_close(patched, bases.output_of(compiled, base))
        torch.testing.assert_close(expected, bases.output_of(compiled, base))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["dit", "class_unet"])
def test_a_base_with_separately_compiled_blocks_is_patched_and_restored(name):
    base = bases.BUILDERS[name]()
    bank = bases.filled_bank(base)
    with torch.no_grad():
        expected = bases.output(base)
        with attach(base, bank):
            patched = bases.output(base)

        for block in list(blocks_of(base)):
            parent, _, own = block.rpartition(".")
            compiled = torch.compile(base.get_submodule(block), backend="eager")
            setattr(base.get_submodule(parent), own, compiled)
        with attach(base, bank):
            torch.testing.assert_close(patched, bases.output(base))
        torch.testing.assert_close(expected, bases.output(base))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_a_compiled_base_with_gradient_checkpointing_gives_the_same_gradients():
    base = bases.dit(layers=2)
    base.requires_grad_(False)
    base.enable_gradient_checkpointing()
    bank = bases.filled_bank(base, noisy=True)
    noise = bases.noise_for(bank)

    def gradients(run):
        bank.zero_grad()
        with attach(base, bank) as attachment, attachment.noise(noise):
            bases.output_of(run, base).square().mean().backward()
        return [parameter.grad.clone() for parameter in bank.parameters()]

    expected = gradients(base)
    found = gradients(torch.compile(base, backend="aot_eager"))

    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(one, two)
