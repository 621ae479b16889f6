"""Scales of quantised tensors: codes as a matrix, values as a grid."""

import pytest

from soupctl.format.scales import matrix_shape, scale_grid


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((), (1, 1)), ((7,), (1, 7)), ((3, 5), (3, 5)), ((4, 3, 2, 2), (4, 12)), ((0, 5), (0, 5))],
)
def test_codes_are_a_matrix_with_the_first_dimension_as_rows(shape, expected):
    assert expected == matrix_shape(shape)


@pytest.mark.parametrize(
    ("shape", "block", "expected"),
    [
        ((256, 512), (128, 128), (2, 4)),
        ((257, 1), (128, 128), (3, 1)),
        ((8, 3, 3), (1, 9), (8, 1)),
        ((8, 9), (8, 9), (1, 1)),
        ((), (1, 1), (1, 1)),
    ],
)
def test_blocks_at_the_edge_may_be_cut_short(shape, block, expected):
    assert expected == scale_grid(shape, block)
