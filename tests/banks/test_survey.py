"""Gates surveyed over timesteps: the numbers are those of what the bank really adds."""

from __future__ import annotations

from math import log

import bases
import pytest
import torch

from soupctl.banks.config import GateInput, GateKind
from soupctl.banks.gate_survey import BlockSurvey, evenly_spaced, survey
from soupctl.banks.stack import Member


def embedded(width, timesteps, label=0):
    """Embeddings that depend on timestep and class, as those of a base do."""
    rows = [
        torch.randn(width, generator=torch.Generator().manual_seed(1000 * label + timestep))
        for timestep in timesteps
    ]
    return torch.stack(rows)


def of_bank(bank, scale=1.0, timesteps=6):
    def embedders(wanted, times, labels):
        return embedded(bank.config.base.embedding_width, times.tolist())

    return survey(Member("", scale, bank), embedders, timesteps, 0)


WAYS = [
    ("dit", {}),
    ("dit", {"topk": 0.5}),
    ("dit", {"gate": GateKind.MIXTURE, "num_prompts": 3}),
    ("dit", {"prepended": 2}),
    ("class_unet", {"gate_grid": 3}),
    ("class_unet", {"gate": GateKind.MIXTURE, "num_prompts": 3}),
]


@pytest.mark.parametrize(("name", "options"), WAYS, ids=str)
def test_the_strength_is_the_root_mean_square_of_the_added_prompts(name, options):
    bank = bases.filled_bank(bases.BUILDERS[name](), **options)
    embeddings = embedded(bank.config.base.embedding_width, range(6))
    for block in of_bank(bank, scale=-2.0).blocks:
        added = bank.delta(block.site.name, embeddings, -2.0).detach()
        expected = added.double().square().flatten(1).mean(dim=1).sqrt()

        torch.testing.assert_close(expected, block.strength, rtol=1e-5, atol=0)


def test_entropy_and_share_in_use_are_those_of_the_weights():
    bank = bases.zero_bank(bases.dit(), gate=GateKind.MIXTURE, num_prompts=2)
    uniform = of_bank(bank).blocks[0]
    bank.gate["2"].bias.data.copy_(torch.tensor([log(3), 0.0]))
    uneven = of_bank(bank).blocks[0]
    entropy = 0.75 * log(4 / 3) + 0.25 * log(4)

    torch.testing.assert_close(torch.full((6,), log(2), dtype=torch.float64), uniform.entropy)
    torch.testing.assert_close(torch.full((6,), 2.0, dtype=torch.float64), uniform.in_use)
    torch.testing.assert_close(
        torch.full((6,), entropy, dtype=torch.float64), uneven.entropy, rtol=1e-6, atol=0
    )
    # a gate that does not look at the time
    assert not uneven.change.any()


def test_change_over_time_is_the_share_of_weight_off_the_mean():
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    block = BlockSurvey(None, weights, torch.zeros(3), torch.zeros(3))

    assert [0.5, 0.5, 0.0] == block.change.tolist()


@pytest.mark.parametrize("gate_input", GateInput)
def test_a_gate_that_sees_classes_is_surveyed_on_all_but_the_empty_one(gate_input):
    bank = bases.filled_bank(bases.dit(), gate_input=gate_input)
    seen = []

    def embedders(wanted, times, labels):
        assert wanted is bank.config.embedding
        seen.append(labels[0].item())
        return embedded(8, times.tolist(), seen[-1])

    found = survey(Member("", 1.0, bank), embedders, 6, bases.CLASSES)

    if gate_input is not GateInput.TIME_AND_CLASS:
        assert ([0], ()) == (seen, found.classes)
        moves = max(float(each.change.max()) for each in found.blocks)
        assert (gate_input is GateInput.NONE) == (moves < 1e-12)
        return
    assert (list(range(bases.CLASSES)), tuple(seen)) == (seen, found.classes)
    block = found.blocks[1]
    of_each = [
        bank.gate_output(block.site.name, embedded(8, range(6), each)).weights for each in seen
    ]
    expected = torch.stack(of_each).double().mean(dim=0).detach()
    torch.testing.assert_close(expected, block.weights)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(3, 5, (0, 1, 2)), (5, 5, (0, 1, 2, 3, 4)), (1000, 5, (0, 250, 500, 749, 999)), (1, 5, (0,))],
)
def test_numbers_are_chosen_evenly_spaced_from_the_first_to_the_last(count, most, expected):
    assert expected == evenly_spaced(count, most)
