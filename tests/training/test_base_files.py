"""What a run loads, records and publishes is what it digested, and nothing from beside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from soupctl.errors import InputError, OutputError

UNET = "unet/diffusion_pytorch_model.safetensors"
FILES = {
    "the weights of the denoiser": UNET,
    "the weights of the vae": "vae/diffusion_pytorch_model.safetensors",
    "the weights of the text encoder": "text_encoder/model.safetensors",
    "the vocabulary": "tokenizer/tokenizer.json",
    "the scheduler": "scheduler/scheduler_config.json",
    "a config": "text_encoder/config.json",
}


@pytest.fixture
def base(bases, tmp_path):
    """A copy of the base that takes captions."""
    return Path(shutil.copytree(bases["text"], tmp_path / "base"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def swap_two_words(base: Path) -> None:
    path = base / "tokenizer/tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    first, other = list(words)[3:5]
    words[first], words[other] = words[other], words[first]
    path.write_text(json.dumps(content))


CHANGES = {
    "unet": lambda base: edit(base / "unet/config.json", norm_eps=0.5),
    "vae": lambda base: edit(base / "vae/config.json", scaling_factor=7.0),
    "text_encoder": lambda base: edit(base / "text_encoder/config.json", layer_norm_eps=0.5),
    "scheduler": lambda base: edit(base / "scheduler/scheduler_config.json", beta_end=0.03),
    "tokenizer": swap_two_words,
}


@pytest.mark.parametrize("file", FILES)
def test_a_base_replaced_between_two_data_shards_is_refused(file, base, shards, running, tmp_path):
    path = base / FILES[file]
    runs = running.prepared_runs(base, [shards["text"]] * 2, tmp_path)
    running.finetune(runs[0], running.ReporterSpy())
    shutil.copy(path, tmp_path / "other")
    os.replace(tmp_path / "other", path)

    with pytest.raises(OutputError, match="changed after the command began") as refusal:
        running.finetune(runs[1], running.ReporterSpy())

    assert path == refusal.value.issues[0].path
    assert not (tmp_path / "run1" / "model").exists()


def test_loaded_weights_do_not_follow_later_writes_to_the_base(base, running, shards, tmp_path):
    (run,) = running.prepared_runs(base, [shards["text"]], tmp_path)
    models = running.load_models(run.base)
    before = {name: value.clone() for name, value in models.vae.state_dict().items()}
    path = base / "vae/diffusion_pytorch_model.safetensors"
    with path.open("r+b") as file:
        file.seek(-400, os.SEEK_END)
        file.write(bytes(400))

    assert all(value.equal(before[name]) for name, value in models.vae.state_dict().items())


@pytest.fixture(scope="module")
def run_of_one_step(bases, shards, running, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "run"
    running.run(bases["text"], shards["text"], output, running.ReporterSpy(), steps=1)
    return output


@pytest.fixture
def resumed(run_of_one_step, base, shards, running, tmp_path):
    """Trains a second step from a copy of the base, and hands on what was reported."""

    def resume():
        output, spy = shutil.copytree(run_of_one_step, tmp_path / "run"), running.ReporterSpy()
        running.run(base, shards["text"], Path(output), spy, steps=2)
        return spy

    return resume


@pytest.mark.parametrize("component", CHANGES)
def test_a_run_is_not_resumed_on_another_base(component, base, resumed):
    CHANGES[component](base)

    with pytest.raises(OutputError, match=f"another run: base {component} config is blake3:"):
        resumed()


def test_a_run_is_resumed_on_the_same_configs_written_otherwise(base, resumed):
    for path in base.rglob("*config.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "_name_or_path": "elsewhere"}, indent=7))

    assert [2] == resumed().steps


@pytest.mark.parametrize(
    "name", ["tokenizer/merges.txt", "scheduler/scheduler_config.json", "vae/config.json", UNET]
)
def test_a_link_out_of_the_base_is_refused(name, base, shards, running, tmp_path):
    path = base / name
    if path.exists():
        shutil.move(path, tmp_path / "outside")
    else:
        (tmp_path / "outside").write_text("a private key")
    path.symlink_to("../../outside")

    with pytest.raises(InputError, match="is a link out of the base, which is not followed"):
        running.run(base, shards["text"], tmp_path / "run", running.ReporterSpy(), steps=1)


def test_a_folder_that_is_a_link_out_of_the_base_is_refused(base, shards, running, tmp_path):
    shutil.move(base / "vae", tmp_path / "vae")
    (base / "vae").symlink_to(tmp_path / "vae")

    with pytest.raises(InputError, match="is a link out of the base, which is not followed"):
        running.run(base, shards["text"], tmp_path / "run", running.ReporterSpy(), steps=1)


def test_other_files_beside_those_of_a_base_are_not_copied(base, shards, running, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "id_rsa").write_text("PRIVATE")
    (base / "scheduler" / "notes.txt").symlink_to(tmp_path / "secret" / "id_rsa")
    (base / "vae" / "docs").symlink_to(tmp_path / "secret")
    for name in ("README.md", "evil.py", "token", ".hidden", "config.json.bak"):
        (base / "vae" / name).write_text("PRIVATE")
    (base / "unet" / "more_config.json").write_text("{}")
    running.run(base, shards["text"], tmp_path / "run", running.ReporterSpy(), steps=1)

    model = tmp_path / "run" / "model"
    assert {"config.json", "diffusion_pytorch_model.safetensors"} == set(os.listdir(model / "vae"))
    assert {"config.json", "diffusion_pytorch_model.safetensors"} == set(os.listdir(model / "unet"))
    assert {"scheduler_config.json"} == set(os.listdir(model / "scheduler"))


def test_a_base_in_the_cache_of_the_hub_is_trained(base, shards, running, tmp_path):
    """There, every file is a link to a blob of the same repository."""
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in base.rglob("*") if path.is_file()):
        link = snapshot / path.relative_to(base)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))

    running.run(snapshot, shards["text"], tmp_path / "run", running.ReporterSpy(), steps=1)

    names = {path.relative_to(snapshot) for path in snapshot.rglob("*") if path.is_symlink()}
    model = tmp_path / "run" / "model"
    assert names == {path.relative_to(model) for path in model.rglob("*") if path.is_file()}
    assert not any(path.is_symlink() for path in model.rglob("*"))
