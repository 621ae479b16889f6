"""A step without memory says what to make smaller; a grid without memory does not end the run."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch
from family_images import drawn

from soupctl.choices import Optimizer, Precision
from soupctl.diffusion.objective import Objective
from soupctl.errors import LimitError
from soupctl.training.options import Options
from soupctl.training.out_of_memory import advising, smaller
from soupctl.training.sample_grids import GridSampler
from soupctl.training.validation import Validation

ERRORS = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    "Python": MemoryError(),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_step_without_memory_says_what_to_make_smaller(kind):
    with pytest.raises(LimitError) as refusal, advising(Options(ema=False), 512):
        raise ERRORS[kind]

    assert refusal.value.message() == (
        "out of memory in training on 4 images of 512 pixels at once (--batch-size 1 --grad-accum 4"
        " takes the same steps in less memory; grad-checkpointing = true in --config recomputes"
        ' activations; --precision bf16 halves activations; optimizer = "adamw8bit" or'
        ' "adafactor" in --config has smaller moments; --resolution below 512 trains on smaller'
        " images)"
    )


def test_options_that_are_small_already_are_not_named():
    options = Options(
        batch_size=1,
        grad_checkpointing=True,
        precision=Precision.BF16,
        optimizer=Optimizer.ADAMW8BIT,
        ema=False,
    )

    assert ["--resolution below 64 trains on smaller images"] == list(smaller(options, 64))


def test_another_error_is_not_called_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes differ"), advising(Options(), 8):
        raise RuntimeError("shapes differ")


def test_a_run_without_memory_keeps_its_checkpoint_and_can_be_resumed(
    trained, tmp_path, monkeypatch
):
    real, calls = Objective.loss, []

    def loss(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise ERRORS["GPU"]
        return real(*arguments)

    monkeypatch.setattr(Objective, "loss", loss)
    with pytest.raises(LimitError, match="out of memory in training on 2 images of 8 pixels"):
        trained("plain", tmp_path / "run", save_every=2)
    monkeypatch.undo()

    assert [3, 4] == trained("plain", tmp_path / "run", save_every=2).steps


@pytest.mark.parametrize("kind", ERRORS)
def test_a_base_that_does_not_fit_is_told_from_one_that_cannot_be_loaded(
    bases, running, monkeypatch, kind
):
    def load(*_arguments, **_options):
        raise ERRORS[kind]

    base = running.read_base(bases["plain"])
    monkeypatch.setattr(diffusers.UNet2DModel, "from_pretrained", load)

    with pytest.raises(type(ERRORS[kind])):
        running.load_models(base)


def test_a_validation_loss_without_memory_says_what_to_make_smaller(trained, tmp_path, monkeypatch):
    def measure(self, _state):
        raise ERRORS["GPU"]

    monkeypatch.setattr(Validation, "measure", measure)

    with pytest.raises(LimitError, match="out of memory in training on 2 images of 8 pixels"):
        trained("plain", tmp_path / "run", validate_share=0.5)


@pytest.mark.parametrize("kind", ERRORS)
def test_images_without_memory_say_what_to_make_smaller(bases, monkeypatch, kind):
    def decode(*_arguments):
        raise ERRORS[kind]

    monkeypatch.setattr("soupctl.images.compare.decode_latents", decode)

    with pytest.raises(LimitError, match="out of memory in drawing images of 8 pixels") as refusal:
        drawn(bases["plain"])

    assert "a smaller --resolution takes less" in refusal.value.message()


def test_a_grid_without_memory_is_left_out_and_changes_nothing(trained, tmp_path, monkeypatch):
    trained("plain", tmp_path / "plain")

    def draw(self, state):
        raise ERRORS["GPU"]

    monkeypatch.setattr(GridSampler, "draw", draw)
    spy = trained("plain", tmp_path / "run", sample_every=2)

    said = [text for text in spy.said if "sample grid" in text]
    assert said[1] == (
        "step 2: no sample grid, out of memory"
        " (it has too many images: set a smaller sample-grid in --config)"
    )
    assert 3 == len(said)
    records = [
        json.loads((tmp_path / name / "soupctl.json").read_text()) for name in ("plain", "run")
    ]
    assert records[0]["weights"] == records[1]["weights"]
