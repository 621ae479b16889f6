from math import comb

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import patched


@pytest.mark.parametrize(("count", "smallest"), [(6, 1), (9, 2), (21, 6), (50, 18)])
def test_the_interval_holds_the_median_with_95_per_cent_and_is_the_shortest_that_does(
    count, smallest
):
    def missed(below):
        return 2 * sum(comb(count, heads) for heads in range(below)) / 2**count

    ratios = [float(number) for number in range(count, 0, -1)]

    assert (smallest, count + 1 - smallest) == patched.interval(ratios)
    assert missed(smallest) <= 0.05 < missed(smallest + 1)


def test_nothing_is_measured_with_a_bank_that_does_nothing():
    model = patched.dit(2, 1).eval()
    bank = patched.filled_bank(model, {})
    for parameter in bank.parameters():
        parameter.data.zero_()

    with pytest.raises(patched.RedGate, match="does nothing"):
        patched.require_right(model, bank, patched.arguments(model, 2))
