"""From a folder whose files contradict each other, soupctl reads what the library reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from soupctl.checkpoints.layout import find_model
from soupctl.checkpoints.open import open_input

Values = Mapping[str, float]
Folder = dict[str, Any]
"""Files by name: the value of each tensor of a weights file, or the map of an index."""
PARTS = ("-00001-of-00002", "-00002-of-00002")


def tiny_clip() -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=6,
    )
    return transformers.CLIPTextModel(config)


def tiny_unet() -> Any:
    return diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )


@pytest.fixture(scope="module", params=[tiny_clip, tiny_unet])
def model(request: pytest.FixtureRequest) -> Iterator[Any]:
    levels = [(each, each.level) for each in map(logging.getLogger, ("diffusers", "transformers"))]
    for logger, _ in levels:
        logger.setLevel(logging.ERROR)
    yield request.param()
    for logger, level in levels:
        logger.setLevel(level)


def sharded(stem: str, names: list[str], values: tuple[float, float], variant: str = "") -> Folder:
    """Two shards with their index, the tensors of each with one value."""
    middle = len(names) // 2
    files = [f"{stem}{variant}{part}.safetensors" for part in PARTS]
    halves = (names[:middle], names[middle:])
    index = f"{stem}.safetensors.index{variant}.json"
    shards = zip(files, halves, values, strict=True)
    held = {file: dict.fromkeys(half, value) for file, half, value in shards}
    return {**held, index: {name: file for file in files for name in held[file]}}


def cases(stem: str, names: list[str]) -> dict[str, tuple[Folder, str | None]]:
    """Folders whose files contradict each other, with the variant asked for."""
    good, half = sharded(stem, names, (1.0, 2.0)), sharded(stem, names, (3.0, 4.0), ".fp16")
    index, fp16 = f"{stem}.safetensors.index.json", f"{stem}.safetensors.index.fp16.json"
    one, two = (f"{stem}{part}.safetensors" for part in PARTS)
    single = {f"{stem}.safetensors": dict.fromkeys(names, 5.0)}
    single_half = {f"{stem}.fp16.safetensors": dict.fromkeys(names, 6.0)}
    first, last = names[0], names[-1]
    unlisted = {key: value for key, value in good[index].items() if key != first}
    return {
        "a file and an index": ({**good, **single}, None),
        "all sorts, plain": ({**good, **half, **single, **single_half}, None),
        "all sorts, a variant": ({**good, **half, **single, **single_half}, "fp16"),
        "a variant's file, a plain index": ({**good, **single_half}, "fp16"),
        "a variant's index, a plain file": ({**half, **single}, "fp16"),
        "a tensor that the index lacks": ({**good, index: unlisted}, None),
        "a tensor in another shard": ({**good, index: {**good[index], first: two}}, None),
        "a tensor in both shards": ({**good, two: {**good[two], first: 7.0}}, None),
        "the last tensor in both shards": (
            {**good, one: {**good[one], last: 7.0}, index: {**good[index], last: one}},
            None,
        ),
        "a name that no shard has": ({**good, index: {**good[index], "none.weight": one}}, None),
        "a shard that the index does not name": (
            {**good, f"{stem}-00003-of-00003.safetensors": dict.fromkeys(names, 8.0)},
            None,
        ),
        "another library's file": (
            {
                **single,
                **{
                    f"{other}.safetensors": dict.fromkeys(names, 9.0)
                    for other in ("model", "diffusion_pytorch_model")
                    if other != stem
                },
            },
            None,
        ),
        "the index of one renamed file": (
            {
                "weights.safetensors": dict.fromkeys(names, 1.5),
                index: dict.fromkeys(names, "weights.safetensors"),
            },
            None,
        ),
        "an older variant's index": (
            {
                **{k: v for k, v in half.items() if k != fp16},
                f"{stem}.safetensors.fp16.index.json": half[fp16],
            },
            "fp16",
        ),
    }


CASES = tuple(cases("model", ["a", "b"]))


@pytest.mark.filterwarnings("ignore:.*serialization format is now deprecated:FutureWarning")
@pytest.mark.parametrize("case", CASES)
def test_what_the_library_reads_is_read(model, case, tmp_path):
    stem = "model" if isinstance(model, transformers.PreTrainedModel) else "diffusion_pytorch_model"
    if stem == "model" and case == "an older variant's index":
        pytest.skip("transformers never wrote it")
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    folder, variant = cases(stem, sorted(shapes))[case]
    model.config.save_pretrained(tmp_path) if stem == "model" else model.save_config(tmp_path)
    for name, content in folder.items():
        if name.endswith(".json"):
            text = json.dumps({"metadata": {"total_size": 1}, "weight_map": content})
            (tmp_path / name).write_text(text)
        else:
            full = {key: torch.full(shapes[key], value) for key, value in content.items()}
            save_file(full, tmp_path / name, metadata={"format": "pt"})

    loaded = type(model).from_pretrained(tmp_path, variant=variant, local_files_only=True)
    expected = {name: float(value.flatten()[0]) for name, value in loaded.state_dict().items()}
    assert expected == values_read(tmp_path, variant)


def values_read(folder: Path, variant: str | None) -> Values:
    """The first element of each tensor that soupctl reads of a folder."""
    (component,) = find_model(folder, variant=variant).components
    with open_input(component) as checkpoint:
        return {
            name: float(memoryview(bytes(checkpoint.stored(name).read())).cast("f")[0])
            for name in checkpoint.tensors
        }
