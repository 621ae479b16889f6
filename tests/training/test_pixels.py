"""An image becomes upright square pixels for the denoiser."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from soupctl.diffusion.base import Conditioning
from soupctl.errors import InputError, OutputError
from soupctl.training.dataset import scan_dataset
from soupctl.training.loader import read_pixels

CENTRE = (0.5, 0.5)


def saved(path, values, dtype=np.uint8, **more):
    Image.fromarray(np.array(values, dtype)).save(path, **more)
    (sample,) = scan_dataset(path.parent, Conditioning.NONE).samples
    return sample


def test_pixels_are_channels_then_rows_from_minus_one_to_one(tmp_path):
    sample = saved(tmp_path / "a.png", [[[0, 255, 51], [255, 0, 0]], [[0, 0, 0], [255, 255, 255]]])

    found = read_pixels(sample, 2, 3, CENTRE)

    assert found.dtype == np.float32
    assert np.allclose(found[:, 0, 0], [-1, 1, -0.6])
    assert np.allclose(found[0], [[-1, 1], [-1, 1]])


def test_exif_orientation_is_applied(tmp_path):
    turned = Image.Exif()
    # a quarter of a turn clockwise makes it upright
    turned[0x0112] = 6
    sample = saved(tmp_path / "a.png", [[0, 255], [0, 255]], exif=turned)

    assert np.array_equal(read_pixels(sample, 2, 1, CENTRE)[0], [[-1, -1], [1, 1]])


def test_the_crop_chooses_the_part_of_the_longer_side(tmp_path):
    sample = saved(tmp_path / "a.png", [[0, 51, 102, 153, 204, 255]])
    starts = [read_pixels(sample, 1, 1, (left, 0.5))[0, 0, 0] for left in (0, 0.4, 1)]

    assert np.allclose(starts, [-1, -0.2, 1])


def test_transparent_pixels_become_white(tmp_path):
    sample = saved(tmp_path / "a.png", [[[0, 0, 0, 0], [0, 0, 0, 255]]] * 2)

    assert np.array_equal(read_pixels(sample, 2, 3, CENTRE)[0], [[1, -1], [1, -1]])


def test_16_bit_gray_keeps_its_range(tmp_path):
    sample = saved(tmp_path / "a.png", [[0, 65535], [257 * 51, 0]], np.uint16)

    found = read_pixels(sample, 2, 1, CENTRE)

    assert np.allclose(found[0], [[-1, 1], [-0.6, -1]])


def test_an_image_that_changed_since_the_scan_is_named(tmp_path):
    sample = saved(tmp_path / "a.png", [[0, 255]])
    saved(tmp_path / "a.png", [[255, 0]])

    with pytest.raises(OutputError, match=r"a\.png: changed during training"):
        read_pixels(sample, 1, 3, CENTRE)


def test_an_image_that_was_deleted_since_the_scan_is_named(tmp_path):
    sample = saved(tmp_path / "a.png", [[0, 255]])
    (tmp_path / "a.png").unlink()

    with pytest.raises(InputError, match=r"a\.png: cannot be read"):
        read_pixels(sample, 1, 3, CENTRE)
