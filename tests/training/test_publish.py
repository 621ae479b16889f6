"""A run publishes nothing from a base that changed meanwhile, and its model card is right."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from soupctl.errors import OutputError
from soupctl.storage import partial

UNET = "unet/diffusion_pytorch_model.safetensors"
CHANGES = {
    "the base's weights": ("plain", UNET),
    "a config": ("plain", "unet/config.json"),
    "the scheduler": ("plain", "scheduler/scheduler_config.json"),
    "the list of components": ("plain", "model_index.json"),
    "the vae's weights": ("text", "vae/diffusion_pytorch_model.safetensors"),
    "the tokenizer": ("text", "tokenizer/tokenizer_config.json"),
}


@pytest.fixture
def base(bases, tmp_path):
    """A copy of a family's base, which a test may change."""

    def copied(family: str) -> Path:
        return Path(shutil.copytree(bases[family], tmp_path / "base"))

    return copied


def touch_after_last_step(running, path: Path):
    """A reporter that rewrites a file with the same bytes when the last step is reported."""

    class TouchingReporter(running.ReporterSpy):
        def show(self, progress) -> None:
            if progress.step == progress.steps:
                data = path.read_bytes()
                path.unlink()
                path.write_bytes(data)

    return TouchingReporter()


@pytest.mark.parametrize("change", CHANGES)
def test_a_base_that_changes_during_training_is_not_published(
    change, running, base, shards, tmp_path
):
    family, name = CHANGES[change]
    folder, out = base(family), tmp_path / "run"
    arguments = folder, shards[family], out

    with pytest.raises(OutputError, match=r"changed after training began \(put the old") as caught:
        running.run(*arguments, touch_after_last_step(running, folder / name), steps=1)
    published = sorted(path.name for path in out.iterdir() if path.name in {"model", "raw"})
    reporter = running.ReporterSpy()
    running.run(*arguments, reporter, steps=1)

    # a message shortens a long path
    assert str(folder / name) == str(caught.value.issues[0].path)
    assert published == []
    assert reporter.steps == []
    assert (out / "model").is_dir()


def test_a_bank_of_a_base_that_changes_during_training_is_not_published(
    running, base, shards, tmp_path
):
    folder, out = base("dit"), tmp_path / "run"
    reporter = touch_after_last_step(
        running, folder / "transformer/diffusion_pytorch_model.safetensors"
    )

    with pytest.raises(OutputError, match="changed after training began"):
        running.patch(folder, shards["dit"], out, reporter, {}, steps=1)

    assert not (out / "bank").exists()


def test_a_base_file_that_shortens_while_it_is_copied_is_not_published(
    running, base, shards, tmp_path, monkeypatch
):
    folder, out = base("text"), tmp_path / "run"
    source = folder / "vae/diffusion_pytorch_model.safetensors"
    size, preallocate = source.stat().st_size, partial.allocate

    def shorten(fd: int, length: int) -> None:
        # the copy has just been created with the size that the source had
        if length == size:
            os.truncate(source, size // 2)
        preallocate(fd, length)

    monkeypatch.setattr(partial, "allocate", shorten)

    with pytest.raises(OutputError, match="changed while it was read"):
        running.run(folder, shards["text"], out, running.ReporterSpy(), steps=1)

    assert not (out / "model").exists()


@pytest.mark.parametrize("name", ["run{x}", "{name}", "{0}", "{", "run{}"])
def test_a_run_folder_may_have_braces_in_its_name(name, trained, tmp_path):
    trained("plain", tmp_path / name, steps=1)

    card = (tmp_path / name / "README.md").read_text()
    assert card.startswith(f"# {name}\n")
    assert f"soupctl avg {name}/model " in card
