"""The checkpoints that are measured have real shapes and values from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import ITEM_BYTES, LAYOUTS, Ingredients, encoded, pieces
from gate import tensors_described, tensors_of
from safetensors import safe_open
from unet import SD15, SDXL, stable_diffusion_unet

DTYPES = sorted(ITEM_BYTES)


def test_the_unet_has_686_tensors_and_860_million_parameters() -> None:
    """The shapes add up to the published size of the model."""
    tensors = stable_diffusion_unet()

    assert 686 == len({tensor.name for tensor in tensors})
    assert 859_520_964 == sum(tensor.size for tensor in tensors)


SD15_FIELDS = {
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SDXL_FIELDS = {
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.mark.parametrize(("model", "fields"), [(SD15, SD15_FIELDS), (SDXL, SDXL_FIELDS)])
def test_a_unet_has_the_names_and_shapes_of_diffusers(model, fields) -> None:
    """Derived names and shapes equal those of the model class with the model's configuration."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        built = diffusers.UNet2DConditionModel(sample_size=64, layers_per_block=2, **fields)
    expected = {name: tuple(value.shape) for name, value in built.state_dict().items()}

    assert expected == {tensor.name: tensor.shape for tensor in stable_diffusion_unet(model)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_safetensors_library_reads_a_benchmark_checkpoint(dtype: str, tmp_path: Path) -> None:
    """Names, shapes and dtypes arrive as they were asked for."""
    (path,) = Ingredients("1mb", dtype, 1).write(tmp_path)
    with safe_open(path, framework="numpy") as file:
        found = {
            name: (file.get_slice(name).get_dtype(), tuple(file.get_slice(name).get_shape()))
            for name in file.keys()  # noqa: SIM118 - a handle is not iterable
        }

    expected = {tensor.name: (dtype, tensor.shape) for tensor in LAYOUTS["1mb"]()}
    assert expected == found
    assert expected == tensors_described(path)
    assert Ingredients("1mb", dtype, 1).file_bytes() == path.stat().st_size


def test_neighbours_differ_and_a_repetition_does_not(tmp_path: Path) -> None:
    """A file is a function of its layout, dtype and index."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    ours = [path.read_bytes() for path in Ingredients("1mb", "F16", 2).write(first)]
    again = [path.read_bytes() for path in Ingredients("1mb", "F16", 2).write(second)]

    assert again == ours
    assert ours[0] != ours[1]


def test_tensors_of_one_checkpoint_differ(tmp_path: Path) -> None:
    """No two tensors of a file hold the same values, though a block is repeated."""
    (path,) = Ingredients("1mb", "F16", 1).write(tmp_path)
    contents = [data for _, _, _, data in tensors_of(path)]

    assert len(contents) == len(set(contents))


def test_pieces_add_up_to_the_size_that_was_asked_for() -> None:
    """Also where that is more than one block."""
    size = 2 * 2**22 + 5

    assert size == sum(piece.size for piece in pieces(size, "F16", 0))


def test_values_have_the_spread_of_weights() -> None:
    """N(0, 0.02): within five standard errors of both of its moments."""
    values = np.concatenate(list(pieces(1 << 16, "F32", 3))).view(np.float32)[: 1 << 16]
    error = 0.02 / 2**8

    assert abs(values.mean()) < 5 * error
    assert abs(values.std() - 0.02) < 5 * error


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("F8_E4M3", [0x00, 0x38, 0xB8, 0x7E, 0x01]),
        ("F8_E5M2", [0x00, 0x3C, 0xBC, 0x5F, 0x18]),
        ("F16", [0x0000, 0x3C00, 0xBC00, 0x5F00, 0x1800]),
        ("BF16", [0x0000, 0x3F80, 0xBF80, 0x43E0, 0x3B00]),
        ("F32", [0x00000000, 0x3F800000, 0xBF800000, 0x43E00000, 0x3B000000]),
        ("F64", [0x0, 0x3FF << 52, 0xBFF << 52, 0x407C << 48, 0x3F6 << 52]),
    ],
)
def test_values_get_the_bits_of_their_dtype(dtype: str, bits: list[int]) -> None:
    """0, 1, -1, 448 and 2**-9 as IEEE 754 and the OCP fp8 formats write them."""
    values = np.array([0, 1, -1, 448, 2**-9], np.float32)

    assert bits == encoded(values, dtype).tolist()


def test_a_sparse_checkpoint_is_as_long_as_it_says_and_takes_no_disk(tmp_path: Path) -> None:
    """7 GB of zeros behind a real header."""
    ingredients = Ingredients("7gb", "F16", 1, sparse=True)
    (path,) = ingredients.write(tmp_path)

    assert 7_000_000_000 <= path.stat().st_size == ingredients.file_bytes()
    assert path.stat().st_blocks * 512 < 2**20
