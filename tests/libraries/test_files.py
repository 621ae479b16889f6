"""The safetensors library reads our files, and would have written the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import safetensors.numpy
import safetensors.torch
import torch
from exact_mean import FORMATS, bits, mean, require_mean
from safetensors import safe_open

COPIED = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.uint64,
    torch.int64,
    torch.complex64,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
)
SHAPES = {"scalar": (), "empty": (0,), "flat": (2, 0, 3), "odd": (3,), "square": (4, 4)}


def drawn(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def repeated(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor whose elements are all made of zero and one bits alike, valid in every dtype."""
    count = torch.Size(shape).numel()
    size = 1 if dtype == torch.bool else dtype.itemsize
    raw = (torch.arange(count * size) % 2).to(torch.uint8)
    return raw.view(dtype).reshape(shape)


def checkpoint(seed: int) -> dict[str, torch.Tensor]:
    """A tensor of every dtype and shape; those that cannot be averaged are the same for all."""
    tensors = {
        f"{dtype}.{name}": drawn(dtype, shape, seed)
        for dtype in FORMATS
        for name, shape in SHAPES.items()
    }
    return tensors | {
        f"{dtype}.{name}": repeated(dtype, shape)
        for dtype in COPIED
        for name, shape in SHAPES.items()
    }


@pytest.fixture
def soup(average, tmp_path) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """A soup of three such checkpoints, and their tensors."""
    contents = [checkpoint(seed) for seed in (1, 2, 3)]
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, tensors in zip(paths, contents, strict=True):
        safetensors.torch.save_file(tensors, path)
    average(*paths, "-o", tmp_path / "soup.safetensors")
    return tmp_path / "soup.safetensors", contents


def test_every_dtype_and_shape_is_read_and_written(soup):
    path, contents = soup

    found = safetensors.torch.load_file(path)
    averaged = {name for name, each in contents[0].items() if each.dtype in FORMATS}
    require_mean(
        {name: found[name] for name in averaged},
        [{name: each[name] for name in averaged} for each in contents],
    )
    assert contents[0].keys() == found.keys()
    for name in contents[0].keys() - averaged:
        expected = contents[0][name]
        assert (expected.dtype, expected.shape) == (found[name].dtype, found[name].shape)
        assert torch.equal(bits(expected), bits(found[name]))


def test_the_library_would_have_written_the_same_file(soup):
    path, _ = soup
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()

    assert ["soupctl"] == list(metadata)
    assert safetensors.torch.save(tensors, metadata) == path.read_bytes()


def test_numpy_reads_the_file_too(average, tmp_path):
    contents = [
        {f"{dtype}": drawn(dtype, (5,), seed) for dtype in FORMATS if dtype.itemsize > 1}
        for seed in (1, 2)
    ]
    del contents[0]["torch.bfloat16"], contents[1]["torch.bfloat16"]
    for number, tensors in enumerate(contents):
        safetensors.torch.save_file(tensors, tmp_path / f"{number}.st")
    average(tmp_path / "0.st", tmp_path / "1.st", "-o", tmp_path / "soup.st")

    found = safetensors.numpy.load_file(tmp_path / "soup.st")
    assert found.keys() == contents[0].keys()
    for name, array in found.items():
        expected = mean([each[name] for each in contents])
        assert expected.numpy().tobytes() == array.tobytes()


def test_slices_are_read_from_the_file(soup):
    path, contents = soup
    name = "torch.float32.square"

    with safe_open(path, "pt") as file:
        part = file.get_slice(name)[1:3, :2]
    assert torch.equal(mean([each[name] for each in contents])[1:3, :2], part)


def test_metadata_on_which_all_agree_is_kept(average, tmp_path):
    for number, title in enumerate(("one", "two")):
        metadata = {"format": "pt", "modelspec.title": title, "modelspec.author": 'ünï\n"x"'}
        tensors = {"weight": torch.ones(3)}
        safetensors.torch.save_file(tensors, tmp_path / f"{number}.st", metadata)
    note = "metadata that differs between ingredients is left out: modelspec.title"

    average(tmp_path / "0.st", tmp_path / "1.st", "-o", tmp_path / "soup.st", notes=[note])

    with safe_open(tmp_path / "soup.st", "pt") as file:
        metadata = file.metadata()
    assert {"format", "modelspec.author", "soupctl"} == set(metadata)
    assert ("pt", 'ünï\n"x"') == (metadata["format"], metadata["modelspec.author"])


def test_a_file_without_tensors_is_one(average, tmp_path):
    safetensors.torch.save_file({}, tmp_path / "empty.st")
    average(tmp_path / "empty.st", tmp_path / "empty.st", "-o", tmp_path / "soup.st")

    assert {} == safetensors.torch.load_file(tmp_path / "soup.st")
