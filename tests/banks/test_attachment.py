"""Banks at work: what they add, what they leave alone, and that nothing remains of them."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import bases
import pytest
import torch
from diffusers import DiTTransformer2DModel

from soupctl.banks.attachment import attach
from soupctl.banks.gates import Balance, balance_loss
from soupctl.errors import MismatchError
from soupctl.soup.bankconfig import GateInput, GateKind


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


OPTIONS = [
    {},
    {"gate_input": GateInput.TIME_AND_CLASS, "noisy": True},
    {"topk": 0.5},
    {"gate": GateKind.MIXTURE, "num_prompts": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_zero_bank_changes_no_bit_of_the_output(base, options, mode):
    """In training, too, where a DiT drops labels at random: a bank disturbs no random numbers."""
    base.train(mode == "train")
    bank = bases.zero_bank(base, **options)
    torch.manual_seed(1)
    expected = bases.output(base)
    torch.manual_seed(1)
    with attach(base, bank) as attachment, attachment.noise(bases.draws_for(bank)):
        found = bases.output(base)

    assert bases.same_bits(expected, found)


# prompts go before the sequence of a transformer alone
EVERY_WAY = [(name, options) for name in bases.BUILDERS for options in OPTIONS]
EVERY_WAY.append(("dit", {"prepended": 2}))


@pytest.mark.parametrize(("name", "options"), EVERY_WAY, ids=str)
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


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_what_goes_into_the_first_block_is_not_written_to(base, options):
    """In a UNet, the same tensor is the first skip connection."""
    kept = {}
    first = base.pos_embed if isinstance(base, DiTTransformer2DModel) else base.conv_in
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


def test_no_gradient_reaches_a_frozen_base_and_its_numbers_do_not_change(base):
    base.requires_grad_(False)
    before = copy.deepcopy(base.state_dict())
    bank = bases.filled_bank(base)
    optimizer = torch.optim.AdamW(bank.groups(1e-2, 10), weight_decay=0.0)
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
        balance_loss(attachment.gated(bank).values(), Balance.OVER_BATCH).backward()

    assert all(parameter.grad is None for parameter in base.parameters())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_at_the_first_step_prompts_learn_and_the_gate_does_not(base, options):
    base.requires_grad_(False)
    bank = bases.zero_bank(base, **options)
    with attach(base, bank) as attachment, attachment.noise(bases.draws_for(bank)):
        bases.output(base).square().mean().backward()

    assert all(each.grad.abs().max() > 0 for each in bank.prompts.values())
    assert all(not each.grad.any() for each in bank.gate.parameters())


def test_gates_vary_with_time_once_they_have_learned(base):
    base.requires_grad_(False)
    bank = bases.zero_bank(base)
    optimizer = torch.optim.AdamW(bank.groups(1e-2, 10), weight_decay=0.0)
    with attach(base, bank) as attachment:
        for _ in range(5):
            optimizer.zero_grad()
            bases.output(base).square().mean().backward()
            optimizer.step()
        gated = attachment.gated(bank)

    # the samples of a batch have different timesteps
    assert all(each.weights.std(dim=0).max() > 0 for each in gated.values())


@pytest.mark.parametrize("gate_input", GateInput)
def test_a_gate_looks_at_the_class_only_if_it_is_to(gate_input):
    for base in (bases.dit(), bases.class_unet()):
        bank = bases.filled_bank(base, gate_input=gate_input)
        with attach(base, bank) as attachment:
            weights = []
            for labels in ([0, 1, 2], [2, 1, 0]):
                bases.output(base, class_labels=torch.tensor(labels))
                weights.append(next(iter(attachment.gated(bank).values())).weights)

        is_same = torch.equal(weights[0], weights[1])
        assert (gate_input is GateInput.TIME) == is_same


def test_the_gates_of_the_loss_are_those_of_the_pass(base):
    for gate_input in GateInput:
        bank = bases.filled_bank(base, gate_input=gate_input, noisy=True)
        used = {}
        own = bank.gated
        bank.gated = lambda block, *rest, own=own, used=used: used.setdefault(
            block, own(block, *rest)
        )
        with attach(base, bank) as attachment, attachment.noise(bases.draws_for(bank)):
            bases.output(base)
            bank.gated = own
            for name, gated in attachment.gated(bank).items():
                assert torch.equal(used[name].weights, gated.weights)


def test_gates_cannot_be_told_before_a_pass(base):
    bank = bases.zero_bank(base)
    with attach(base, bank) as attachment, pytest.raises(ValueError, match="no forward pass"):
        attachment.gated(bank)


def gradients(base, bank, draws):
    """Those of two passes of different timesteps, whose backward passes come together."""
    bank.zero_grad()
    with attach(base, bank) as attachment, attachment.noise(draws):
        one = bases.output(base)
        other = bases.output(base, timestep=torch.tensor([500, 1, 30]))
        (one.square().mean() + other.pow(3).mean()).backward()
        balance_loss(attachment.gated(bank).values(), Balance.AS_CODED).backward()
    return [parameter.grad.clone() for parameter in bank.parameters()]


@pytest.mark.parametrize(("name", "options"), EVERY_WAY, ids=str)
def test_gradient_checkpointing_changes_no_gradient(name, options):
    base = bases.BUILDERS[name]()
    bank = bases.filled_bank(base, **options)
    base.requires_grad_(False)
    draws = bases.draws_for(bank)
    calls = []
    inner = "transformer_blocks.0.attn1" if name == "dit" else "down_blocks.0.resnets.0"
    base.get_submodule(inner).register_forward_pre_hook(lambda *arguments: calls.append(arguments))
    expected = gradients(base, bank, draws)
    assert 2 == len(calls)

    base.enable_gradient_checkpointing()
    found = gradients(base, bank, draws)

    # each of two passes was computed again
    assert 2 + 4 == len(calls)
    assert any(each.abs().max() > 0 for each in expected)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


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
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_a_compiled_base_with_gradient_checkpointing_gives_the_same_gradients():
    base = bases.dit(layers=2)
    base.requires_grad_(False)
    base.enable_gradient_checkpointing()
    bank = bases.filled_bank(base, noisy=True)
    draws = bases.draws_for(bank)

    def gradients(run):
        bank.zero_grad()
        with attach(base, bank) as attachment, attachment.noise(draws):
            bases.output_of(run, base).square().mean().backward()
        return [parameter.grad.clone() for parameter in bank.parameters()]

    expected = gradients(base)
    found = gradients(torch.compile(base, backend="aot_eager"))

    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(one, two)


def test_a_base_in_bfloat16_takes_a_bank_in_float32(base):
    base.to(torch.bfloat16)
    bank = bases.filled_bank(base)
    inputs = {
        name: each.bfloat16() if each.is_floating_point() else each
        for name, each in bases.inputs(base).items()
    }
    expected = base(**inputs).sample
    with attach(base, bases.zero_bank(base)):
        assert torch.equal(expected, base(**inputs).sample)
    with attach(base, bank):
        found = base(**inputs).sample

    assert torch.bfloat16 == found.dtype
    assert not torch.equal(expected, found)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_bank_computes_in_float32_under_autocast(base, options):
    bank = bases.filled_bank(base, **options)
    site = bank.config.base.sites[-1]
    embeddings = torch.randn(3, bank.config.base.embedding_width)
    expected = bank.delta(site.name, embeddings)
    with torch.autocast("cpu", torch.bfloat16):
        found = bank.delta(site.name, embeddings)

    assert torch.equal(expected, found)


@pytest.mark.parametrize("options", [*OPTIONS, {"prepended": 2}], ids=str)
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


def test_another_size_of_image_is_refused_naming_the_block():
    base = bases.class_unet()
    sample = torch.randn(3, 2, 16, 16)
    refused = pytest.raises(MismatchError, match=r"down_blocks\.0: .*\[4, 8, 8\].*\[4, 16, 16\]")
    with attach(base, bases.zero_bank(base)), refused:
        bases.output(base, sample=sample)


@pytest.mark.parametrize(
    ("other", "allowed", "problem"),
    [
        (bases.class_unet(), False, "class DiTTransformer2DModel, and the base's is UNet2DModel"),
        (bases.dit(layers=2), False, "transformer_blocks.2: the base has no such block"),
        (bases.dit(layers=4), False, "other config"),
        (bases.dit(layers=4), True, None),
    ],
)
def test_a_bank_is_attached_to_a_base_of_its_kind_alone(other, allowed, problem):
    bank = bases.zero_bank(bases.dit())
    expected = nullcontext() if problem is None else pytest.raises(MismatchError, match=problem)

    with expected, attach(other, bank, allow_base_mismatch=allowed):
        bases.output(other)


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
