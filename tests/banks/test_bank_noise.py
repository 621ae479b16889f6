import bases
import torch

from soupctl.banks.bank import gate_noise


def test_a_visit_gets_the_same_noise_in_any_batch(base):
    config = bases.zero_bank(base, noisy=True).config
    whole = gate_noise(config, 7, [3, 4, 5])
    parts = [gate_noise(config, 7, [5]), gate_noise(config, 7, [3, 4])]

    for site in config.base.sites:
        assert (3, config.rows(site)) == whole[site.name].shape
        assert torch.equal(whole[site.name], torch.cat([parts[1][site.name], parts[0][site.name]]))


def test_visits_blocks_and_seeds_have_noise_of_their_own():
    config = bases.zero_bank(bases.dit(), noisy=True).config
    rows = [
        *gate_noise(config, 7, [3, 4])["transformer_blocks.0"],
        *gate_noise(config, 7, [3])["transformer_blocks.1"],
        *gate_noise(config, 8, [3])["transformer_blocks.0"],
    ]

    assert 4 == len({row.numpy().tobytes() for row in rows})


def test_gate_noise_has_the_shape_that_a_noisy_gate_takes():
    base = bases.dit()
    bank = bases.filled_bank(base, noisy=True)
    gated = bank.gate_output(
        "transformer_blocks.1", torch.randn(2, 8), gate_noise(bank.config, 7, [3, 4])
    )

    assert gated.spread is not None
    assert (2, 16) == gated.noisy.shape
