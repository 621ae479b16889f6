"""Training works: labels are dropped by sample, frozen models stay, images are memorized."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from soupctl.choices import Schedule
from soupctl.diffusion import loading
from soupctl.training import sample_grids, train_denoiser
from soupctl.training.distributed import start_accelerator
from soupctl.training.loader import Examples, collate
from soupctl.training.metrics import read_metrics
from soupctl.training.options import Options
from soupctl.training.setup import RunRequest, prepare

STEPS = 600
FALL = 5
"""How many times smaller the loss on eight images gets in so many steps."""


def prepared(base: Path, data: Path, output: Path, **options):
    chosen = Options(**{"steps": 1, "batch_size": 2, **options})
    (run,) = prepare([RunRequest(base, data, output, chosen)], start_accelerator(chosen))
    return run


def test_labels_of_a_dit_are_dropped_by_sample_and_not_by_block(bases, shards, tmp_path):
    run = prepared(bases["dit"], shards["dit"], tmp_path, batch_size=64, cond_drop=0.5)
    loaded = loading.load_models(run.base)
    training = train_denoiser.initial_state(run, loaded)
    batch = next(train_denoiser.batches_from(run, loaded, 0))
    seen = []
    for block in loaded.denoiser.transformer_blocks:
        table = block.norm1.emb.class_embedder.embedding_table
        table.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    train_denoiser.loss_function(run, loaded)(training.model, batch)

    null = run.classes.null
    # each of three blocks, and the head by way of the first
    assert len(seen) == 4
    assert all(torch.equal(batch.labels, labels) for labels in seen)
    assert 0 < int((batch.labels == null).sum()) < 64


def test_captions_are_dropped_by_sample(bases, shards, tmp_path):
    run = prepared(bases["text"], shards["text"], tmp_path, cond_drop=0.5)
    examples = Examples(run.dataset.samples, run.options, run.input_spec, None, None, None)

    captions = collate([examples[visit] for visit in range(64)]).captions

    assert 0 < captions.count("") < 64


def test_only_the_denoiser_changes(trained, bases, tmp_path):
    trained("text", tmp_path / "run")

    for name in ("vae/diffusion_pytorch_model", "text_encoder/model"):
        before = (bases["text"] / f"{name}.safetensors").read_bytes()
        assert before == (tmp_path / "run" / "model" / f"{name}.safetensors").read_bytes()


def test_the_weights_are_restored_from_the_ema_after_a_grid(bases, shards, tmp_path):
    run = prepared(bases["plain"], shards["plain"], tmp_path, ema_decay=0.5)
    training = train_denoiser.initial_state(run, loading.load_models(run.base))
    first = next(iter(training.trained.values()))
    with torch.no_grad():
        first.fill_(3)

    with sample_grids.ema_in_place(training):
        assert not bool((first == 3).any())
    with suppress(RuntimeError), sample_grids.ema_in_place(training):
        raise RuntimeError("a sampler that fails")

    assert bool((first == 3).all())


@pytest.mark.slow
def test_eight_images_are_memorized_and_sampled(tiny, trained, running, tmp_path):
    """The picture is samples/step-000600.png in the run: a row an image, four of each."""
    base = tiny.class_base(tmp_path / "base", classes=8, channels=3, width=16)
    originals = eight_images(tiny)
    for number, picture in enumerate(originals):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        picture.save(tmp_path / "data" / str(number) / "x.png")
    more = {"batch_size": 8, "lr": 3e-3, "lr_schedule": Schedule.COSINE, "ema_decay": 0.99}
    shown = {"sample_every": STEPS, "guidance": 1.0, "log_every": 50}

    running.run(
        base,
        tmp_path / "data",
        tmp_path / "run",
        running.ReporterSpy(),
        steps=STEPS,
        **more,
        **shown,
    )

    rows = read_metrics(tmp_path / "run")
    assert rows[0]["loss"] / rows[-1]["loss"] > FALL
    grid = Image.open(tmp_path / "run" / "samples" / f"step-{STEPS:06}.png")
    # each small image is shown eight times as large, two pixels from the next, each row below a
    # label of 20 pixels
    cells = np.asarray(grid, float)
    cells = np.stack([cells[86 * row + 20 : 86 * row + 84] for row in range(8)])
    drawn = np.stack([cells[:, 4:64:8, 66 * k + 4 : 66 * k + 64 : 8] for k in range(4)], axis=1)
    wanted = np.stack([np.asarray(each, float) for each in originals])
    distances = np.square(drawn.mean(axis=1)[:, None] - wanted[None]).mean(axis=(2, 3, 4))
    assert [*range(8)] == distances.argmin(axis=1).tolist()


def eight_images(tiny) -> list[Image.Image]:
    """Every shape in every colour, and two of them inverted."""
    shapes = [tiny.drawn(*kind, 8) for kind in product(tiny.COLOURS, tiny.SHAPES)]
    return [*shapes, *(Image.fromarray(255 - np.asarray(each)) for each in shapes[:2])]
