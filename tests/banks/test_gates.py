from math import erf, exp, log, sqrt

import pytest
import torch

from soupctl.banks.gates import (
    Balance,
    Gate,
    GateOutput,
    balance_loss,
    imbalance_over_batch,
    importance_as_coded,
    load_as_coded,
    probability_kept,
    top_k_softmax,
)


def normal_below(value: float) -> float:
    return (1 + erf(value / sqrt(2))) / 2


def drawn_gate(rows: int = 16, kept: int = 16, noisy: bool = False) -> Gate:
    gate = Gate(rows, 8, kept, noisy)
    generator = torch.Generator().manual_seed(3)
    for parameter in gate.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return gate


EMBEDDINGS = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
DRAWS = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kept", [1, 4, 15, 16])
@pytest.mark.parametrize("noisy", [False, True])
def test_rows_sum_to_one_and_exactly_as_many_as_asked_are_kept(kept, noisy):
    weights = drawn_gate(kept=kept, noisy=noisy)(EMBEDDINGS, 2, DRAWS).weights

    # each of 16 weights and 15 sums is rounded once
    torch.testing.assert_close(torch.ones(5), weights.sum(1), rtol=32 * 2**-24, atol=0)
    assert [kept] * 5 == (weights != 0).sum(1).tolist()


@pytest.mark.parametrize("kept", [1, 8])
def test_a_new_gate_keeps_exactly_as_many_as_asked_though_all_are_equal(kept):
    weights = Gate(16, 8, kept, noisy=False)(EMBEDDINGS, 0).weights

    assert {0.0, 1 / kept} == set(weights.flatten().tolist())
    assert [kept] * 5 == (weights != 0).sum(1).tolist()


def test_top_k_keeps_the_largest_weights():
    logits = torch.tensor([[0.0, log(3.0), -1.0, log(2.0)]])

    torch.testing.assert_close(torch.tensor([[0.0, 0.6, 0.0, 0.4]]), top_k_softmax(logits, 2))


def test_the_gate_is_one_linear_map_of_embedding_and_depth():
    gate = drawn_gate()
    expected = EMBEDDINGS @ gate.weight[:, :8].T + 27 * gate.weight[:, 8] + gate.bias

    torch.testing.assert_close(expected, gate(EMBEDDINGS, 27).clean)


def test_noise_has_the_spread_of_its_table():
    """softplus(0) = ln 2, and 0.01 is added."""
    gate = Gate(16, 8, 16, noisy=True)
    gated = gate(EMBEDDINGS, 0, DRAWS)

    torch.testing.assert_close(torch.full((5, 16), log(2) + 0.01), gated.spread)
    torch.testing.assert_close(DRAWS * (log(2) + 0.01), gated.noisy)


def test_a_gate_without_noise_or_without_a_table_is_not_noisy():
    for gate, noise in ((drawn_gate(noisy=True), None), (drawn_gate(), DRAWS)):
        gated = gate(EMBEDDINGS, 0, noise)

        assert gated.spread is None
        assert torch.equal(gated.clean, gated.noisy)


def test_a_gate_draws_no_random_numbers():
    before = torch.get_rng_state()
    drawn_gate(noisy=True)(EMBEDDINGS, 0, DRAWS)

    assert torch.equal(before, torch.get_rng_state())


def test_importance_as_coded_is_that_of_the_hand():
    """Summed over blocks [[2, 0], [1, 1]]: mean 1, unbiased variance 2/3."""
    weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])

    torch.testing.assert_close(torch.tensor(2 / 3), importance_as_coded(weights))


def test_importance_as_coded_is_zero_for_uniform_gates():
    assert 0 == importance_as_coded(torch.full((3, 4, 16), 1 / 16)).item()


def test_importance_as_coded_is_that_of_one_prompt_for_all():
    """N - 1 with the plain variance, here the unbiased one of 4 * 16 values."""
    weights = torch.zeros(3, 4, 16)
    weights[:, :, 5] = 1

    torch.testing.assert_close(torch.tensor(15 * 64 / 63), importance_as_coded(weights))


def test_importance_of_the_one_weight_of_one_sample_is_zero():
    assert 0 == importance_as_coded(torch.ones(3, 1, 1)).item()


def test_importance_over_the_batch_is_that_of_the_hand():
    """Block sums [2, 0] and [1, 1]: squared coefficients of variation 1 and 0."""
    weights = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])

    torch.testing.assert_close(torch.tensor(0.5), imbalance_over_batch(weights))


def test_the_two_forms_of_importance_mean_different_things():
    """One sample, one prompt each: flat over the batch, not flat for any sample."""
    weights = torch.eye(4)[None]

    assert 0 == imbalance_over_batch(weights).item()
    torch.testing.assert_close(torch.tensor(3 * 16 / 15), importance_as_coded(weights))


def test_initial_importance_follows_from_the_spread_of_the_noise():
    """(exp(s^2) - 1) / blocks for logits of spread s, whose exponentials are log-normal."""
    gate = Gate(256, 8, 256, noisy=True)
    generator = torch.Generator().manual_seed(4)
    gated = [
        gate(torch.zeros(128, 8), depth, torch.randn(128, 256, generator=generator))
        for depth in range(12)
    ]

    expected = (exp((log(2) + 0.01) ** 2) - 1) / 12
    found = importance_as_coded(torch.stack([each.weights for each in gated])).item()

    # five standard errors of the variance of 128 * 256 values, and a row's sum, which is theirs
    assert abs(found / expected - 1) < 5 * sqrt(2 / (128 * 256)) + 2 / 256


def two_rows(spread: float | None) -> GateOutput:
    """Equal logits, of which noise lifted the first by 1 and lowered the second by 1."""
    noisy = torch.tensor([[1.0, -1.0]])
    return GateOutput(
        weights=top_k_softmax(noisy, 1),
        clean=torch.zeros(1, 2),
        noisy=noisy,
        spread=None if spread is None else torch.full((1, 2), spread),
        kept=1,
    )


@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_the_chance_of_being_kept_is_that_of_passing_the_others(spread):
    first = normal_below((0 - -1) / spread)
    expected = torch.tensor([[first, 1 - first]])

    torch.testing.assert_close(expected, probability_kept(two_rows(spread)))


def test_the_probability_of_a_top_k_place_agrees_with_repeated_sampling():
    """Against one million draws of one row's noise, all other rows' held still."""
    generator = torch.Generator().manual_seed(6)
    clean = torch.randn(1, 5, generator=generator)
    spread = torch.rand(1, 5, generator=generator) + 0.5
    noisy = clean + spread * torch.randn(1, 5, generator=generator)
    gated = GateOutput(top_k_softmax(noisy, 2), clean, noisy, spread, 2)
    again = torch.randn(1_000_000, generator=generator)

    found = []
    for row in range(5):
        rest = torch.cat([noisy[0, :row], noisy[0, row + 1 :]])
        passed = clean[0, row] + spread[0, row] * again > rest.sort().values[-2]
        found.append(passed.float().mean())

    # five standard errors of a share of a million are at most 0.0025
    torch.testing.assert_close(torch.stack(found), probability_kept(gated)[0], atol=0.0025, rtol=0)


def test_load_as_coded_is_that_of_the_hand_and_no_balance():
    """The chances of two rows sum to one, however uneven they are."""
    chances = probability_kept(two_rows(1.0))[None]

    torch.testing.assert_close(torch.tensor(1.0), load_as_coded(chances, 1))
    # and of two blocks it is the mean
    torch.testing.assert_close(torch.tensor(1.0), load_as_coded(chances.repeat(2, 1, 1), 1))


def test_load_as_coded_is_nothing_where_all_are_kept():
    chances = torch.ones(3, 4, 16)

    assert 0 == load_as_coded(chances, 16).item()
    assert 0 == imbalance_over_batch(chances).item()


def test_load_over_the_batch_is_that_of_the_hand():
    first = normal_below(1)
    expected = torch.tensor(((first - 0.5) / 0.5) ** 2)

    torch.testing.assert_close(
        expected, imbalance_over_batch(probability_kept(two_rows(1.0))[None])
    )


def test_without_noise_top_k_is_certain():
    assert [[1.0, 0.0]] == probability_kept(two_rows(None)).tolist()


@pytest.mark.parametrize("form", Balance)
def test_the_balance_of_gates_of_several_sizes_is_the_mean_of_the_groups(form):
    def blocks(rows: int) -> list[GateOutput]:
        gate = drawn_gate(rows, rows // 2, noisy=True)
        return [gate(EMBEDDINGS, depth, torch.ones(5, rows)) for depth in range(2)]

    small, large = blocks(4), blocks(8)
    expected = (balance_loss(small, form) + balance_loss(large, form)) / 2

    # in whatever order the blocks come
    mixed = [small[0], large[0], large[1], small[1]]
    torch.testing.assert_close(expected, balance_loss(mixed, form))


def test_the_balance_is_the_sum_of_importance_and_load():
    gated = two_rows(1.0)
    weights, chances = gated.weights[None], probability_kept(gated)[None]

    torch.testing.assert_close(
        importance_as_coded(weights) + load_as_coded(chances, 1),
        balance_loss([gated], Balance.AS_CODED),
    )
    torch.testing.assert_close(
        imbalance_over_batch(weights) + imbalance_over_batch(chances),
        balance_loss([gated], Balance.OVER_BATCH),
    )


@pytest.mark.parametrize("form", Balance)
@pytest.mark.parametrize("kept", [8, 16])
def test_balance_teaches_gate_and_noise(form, kept):
    gate = drawn_gate(kept=kept, noisy=True)
    balance_loss([gate(EMBEDDINGS, depth, DRAWS) for depth in range(3)], form).backward()

    assert all(parameter.grad.abs().max() > 0 for parameter in gate.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in gate.parameters())
