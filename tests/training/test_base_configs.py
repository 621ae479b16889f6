"""Configs of a base with fields missing, or of a wrong type or size, are refused in one line.

Rule 1: every field of every config of every family is made strange; whatever is not refused by the
checks of fields has models built for it, for a fixed share of the cases.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from soupctl.diffusion.base_reader import read_base
from soupctl.errors import InputError, MismatchError, SoupError

FAMILIES = ("text", "class", "dit", "plain")
STRANGE = (None, "x", -1, 0, 10**30, [], {}, [None], [1] * 50, True, 1.5, 1e308)
BUILT = 40
"""One case in so many has models built for it, which takes half a second."""


def strange_configs(base: Path) -> Iterator[tuple[str, Path]]:
    """The base with one field of one config removed or made strange, and what was done."""
    for path in sorted(base.rglob("*.json")):
        text = path.read_text()
        content = json.loads(text)
        for field in content:
            rest = {name: value for name, value in content.items() if name != field}
            for changed in (rest, *({**content, field: value} for value in STRANGE)):
                path.write_text(json.dumps(changed))
                yield f"{path.relative_to(base)}: {field}: {changed.get(field, 'missing')}", base
        path.write_text(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_strange_config_is_refused_in_one_line(family, bases, running, tmp_path):
    shutil.copytree(bases[family], tmp_path / "base")
    refused: list[SoupError] = []
    read = 0

    for case, base in strange_configs(tmp_path / "base"):
        try:
            read_base(base)
            read += 1
            if crc32(case.encode()) % BUILT == 0:
                running.read_base_setup(base, running.Options(steps=1, sample_every=1), None)
        except SoupError as error:
            refused.append(error)

    assert len(refused) > read
    assert {InputError, MismatchError} == set(map(type, refused))
    assert not [error for error in refused if "\n" in error.message()]


CASES = {
    "no size of the model": ("text/unet", {"block_out_channels": None}, 3),
    "layers without end": ("text/unet", {"layers_per_block": 10**30}, 3),
    "another shape than that of the weights": ("text/unet", {"cross_attention_dim": 32}, 4),
    "fewer layers than the weights": ("dit/transformer", {"num_layers": 2}, 4),
    "more layers than the weights": ("dit/transformer", {"num_layers": 4}, 4),
    "an unknown block": ("plain/unet", {"down_block_types": ["DownBlock2D", "x"]}, 3),
    "a vae of other channels": ("text/vae", {"latent_channels": 8}, 4),
    "a factor of zero": ("text/vae", {"scaling_factor": 0}, 3),
    "no factor": ("text/vae", {"scaling_factor": None}, 3),
    "an encoder of other width": ("text/text_encoder", {"hidden_size": 8}, 4),
    "too few tokens": ("text/text_encoder", {"vocab_size": 5}, 4),
    "captions without end": ("text/tokenizer", {"model_max_length": 10**30}, 3),
    "captions that are too long": ("text/tokenizer", {"model_max_length": 77}, 4),
    "an activation that is a number": ("text/text_encoder", {"hidden_act": 1}, 3),
    "timesteps without end": ("plain/scheduler", {"num_train_timesteps": 10**30}, 3),
    "no timesteps": ("plain/scheduler", {"num_train_timesteps": 0}, 3),
    "betas that are not numbers": ("plain/scheduler", {"trained_betas": ["x"]}, 3),
    "an unknown schedule": ("plain/scheduler", {"beta_schedule": "x"}, 3),
}


@pytest.mark.parametrize("case", CASES)
def test_a_config_that_does_not_fit_is_refused_before_data_is_read(case, bases, running, tmp_path):
    place, changes, code = CASES[case]
    family, _, component = place.partition("/")
    shutil.copytree(bases[family], tmp_path / "base")
    (path,) = (tmp_path / "base" / component).glob("*config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    with pytest.raises((InputError, MismatchError)) as refusal:
        running.run(tmp_path / "base", tmp_path / "no data", tmp_path / "run", None)

    assert code == refusal.value.exit_code, refusal.value.message()
    assert "\n" not in refusal.value.message()


def test_weights_under_names_that_the_library_used_until_2023_are_read(
    bases, running, shards, tmp_path
):
    """diffusers still renames them as it loads them."""
    shutil.copytree(bases["class"], tmp_path / "base")
    path = tmp_path / "base/unet/diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    new_name = re.compile(r"\b(to_q|to_k|to_v|to_out\.0)\b")
    tensors = {
        new_name.sub(lambda found: old[found[1]], name): tensor
        for name, tensor in running.load_file(path).items()
    }
    running.save_file(tensors, path, {"format": "pt"})
    spy = running.ReporterSpy()

    running.run(tmp_path / "base", shards["class"], tmp_path / "run", spy, steps=1)

    assert (tmp_path / "run" / "model").is_dir()
