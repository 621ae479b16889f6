"""Embeddings of captions are made once, kept by content, and used instead of the text encoders."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from soupctl.diffusion.families.family import Frame
from soupctl.diffusion.loading import encode_captions, encode_nothing
from soupctl.errors import InputError, UsageError
from soupctl.ledger.data_shard import file_digest
from soupctl.training import text_cache, trainer
from soupctl.training.options import Options
from soupctl.training.text_cache import TEXTS, with_cached_texts

ALONE = {"batch_size": 1, "cache_texts": True}


@pytest.mark.parametrize("family", ["text", "sdxl", "sd3", "flux"])
def test_what_is_kept_is_what_the_text_encoders_make_of_each_caption(
    running, bases, families, shards, tmp_path, family
):
    base = {**bases, **families}[family]
    (run,) = running.prepared_runs(base, [shards["text"]], tmp_path, cache_texts=True)
    run.request.output.mkdir()
    models = running.load_models(run.base)
    captions = sorted({text for each in run.dataset.samples for text in each.captions})
    frame = Frame.whole(1, 8, 8)

    cached = with_cached_texts(run, models, ["another prompt"])

    assert {} == cached.text_encoders
    for caption in [*captions, "", "another prompt"]:
        expected = encode_captions(models, [caption], frame, 3.5)
        found = encode_captions(cached, [caption], frame, 3.5)
        assert expected.keys() == found.keys()
        assert all(torch.equal(each, found[name]) for name, each in expected.items())
    both = encode_captions(cached, captions[:2], Frame.whole(2, 8, 8), 3.5)
    assert {2} == {len(each) for each in both.values()}
    nothing = [encode_nothing(each, 1, frame, 3.5) for each in (models, cached)]
    assert all(torch.equal(each, nothing[1][name]) for name, each in nothing[0].items())
    assert run.plan.texts_bytes == pytest.approx(_size(run.request.output / TEXTS), rel=0.2)


def _size(folder: Path) -> int:
    captions = list(folder.iterdir())
    # the header of a file is longer than the embeddings of a tiny model
    return sum(each.stat().st_size - 8 - _header(each) for each in captions[:-1])


def _header(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[:8], "little")


def test_a_run_with_it_has_the_same_bytes_if_captions_are_encoded_alone(
    trained, running, tmp_path, monkeypatch
):
    grids = {"prompt": ("a red circle",), "sample_every": 2, "sample_grid": 1, "sample_steps": 1}
    trained("text", tmp_path / "plain", steps=2, **{**ALONE, "cache_texts": False}, **grids)
    encoders = []
    load = trainer.load_models

    def spy(base):
        models = load(base)
        encoders.extend(weakref.ref(each) for each in models.text_encoders.values())
        return models

    def freed(*args: object) -> None:
        gc.collect()
        assert [each() for each in encoders] == [None] * len(encoders)
        return train(*args)

    train = trainer._train
    monkeypatch.setattr(trainer, "load_models", spy)
    monkeypatch.setattr(trainer, "_train", freed)
    trained("text", tmp_path / "cached", steps=2, **ALONE, **grids)

    weights = [
        running.load_file(tmp_path / name / "raw/unet/diffusion_pytorch_model.safetensors")
        for name in ("plain", "cached")
    ]
    assert all(torch.equal(each, weights[1][name]) for name, each in weights[0].items())
    grids = [sorted((tmp_path / name / "samples").iterdir()) for name in ("plain", "cached")]
    assert len(grids[0]) == 2
    assert list(map(file_digest, grids[0])) == list(map(file_digest, grids[1]))
    assert encoders
    assert (tmp_path / "cached/model/text_encoder").is_dir()


def test_captions_are_encoded_once_until_they_or_the_encoders_change(
    running, bases, shards, tmp_path, monkeypatch
):
    (run,) = running.prepared_runs(bases["text"], [shards["text"]], tmp_path, cache_texts=True)
    run.request.output.mkdir()
    models, made = running.load_models(run.base), []
    embed = text_cache.embed_captions
    monkeypatch.setattr(
        text_cache,
        "embed_captions",
        lambda models, captions: made.append(captions) or embed(models, captions),
    )

    with_cached_texts(run, models, [])
    first = len(made)
    with_cached_texts(run, models, [])
    assert (len({text for (text,) in made}), first) == (first, len(made))
    with_cached_texts(run, models, ["new"])
    assert made[first:] == [["new"]]
    monkeypatch.setitem(run.digests, "text_encoder", "blake3:" + "0" * 64)
    with_cached_texts(run, models, [])
    assert len(made) == 2 * first + 1


def test_a_broken_file_is_named(running, bases, shards, tmp_path):
    (run,) = running.prepared_runs(bases["text"], [shards["text"]], tmp_path, cache_texts=True)
    run.request.output.mkdir()
    cached = with_cached_texts(run, running.load_models(run.base), [])
    for path in (run.request.output / TEXTS).iterdir():
        path.write_bytes(b"x")

    with pytest.raises(InputError, match="delete the file, and run the same command to resume"):
        cached.embedded([""])


def test_it_is_refused_without_text_encoders_or_if_they_are_trained(running, bases, shards):
    with pytest.raises(UsageError, match="has no text encoder"):
        running.read_base_setup(bases["plain"], Options(steps=1, cache_texts=True), None)
    both = Options(steps=1, cache_texts=True, train_text_encoder=True)
    with pytest.raises(UsageError, match="exclude each other"):
        running.read_base_setup(bases["text"], both, None)
