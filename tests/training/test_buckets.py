"""Images of several shapes: batches of one shape each, in an order that any start can continue."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from soupctl.diffusion.base import Conditioning
from soupctl.errors import MismatchError, UsageError
from soupctl.training.buckets import BucketOrder, bucket_sizes, nearest_size, size_for
from soupctl.training.dataset import scan_dataset
from soupctl.training.loader import BatchSampler, Examples, InputSpec
from soupctl.training.options import Options
from soupctl.training.pixels import frame_of, read_pixels

SHAPES = {
    "wide": (20, 5),
    "square": (9, 9),
    "tall": (5, 20),
    "other wide": (30, 8),
    "wider": (9, 4),
}


def test_buckets_are_multiples_of_the_unit_and_have_no_more_pixels_than_the_square():
    sizes = bucket_sizes(512, 64)

    assert {(512, 512), (576, 448), (448, 576), (640, 384), (1024, 256), (256, 1024)} <= set(sizes)
    assert len(sizes) == 17
    assert all(
        side % 64 == 0 and 256 <= side <= 1024 and w * h <= 512 * 512
        for w, h in sizes
        for side in (w, h)
    )
    assert {(h, w) for w, h in sizes} == set(sizes)
    assert bucket_sizes(8, 8) == ((8, 8),)
    assert {(512, 512), (576, 448), (448, 576)} == set(bucket_sizes(512, 64, 600))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 100), (512, 512)),
        ((3000, 2000), (640, 384)),
        ((1200, 1000), (576, 448)),
        ((20_000, 3), (1024, 256)),
        ((3, 20_000), (256, 1024)),
    ],
)
def test_an_image_has_the_bucket_of_the_nearest_aspect_ratio(size, expected):
    assert expected == nearest_size(size, bucket_sizes(512, 64))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 100), (256, 256)),
        ((300, 256), (256, 256)),
        ((600, 600), (512, 512)),
        ((800, 640), (576, 448)),
        ((767, 5000), (384, 1536)),
        ((1200, 1000), (832, 704)),
    ],
)
def test_of_several_resolutions_an_image_has_the_highest_that_needs_no_enlargement(size, expected):
    resolutions = [bucket_sizes(side, 64) for side in (256, 512, 768)]

    assert expected == size_for(size, resolutions)


def test_batches_are_full_have_one_bucket_and_visit_every_image_in_each_epoch():
    buckets = [tuple(range(7)), (7,), (8, 9, 10, 11)]
    bucket_of = {index: number for number, bucket in enumerate(buckets) for index in bucket}
    order = BucketOrder(3, buckets, 4)

    epochs = [[order.index(16 * epoch + place) for place in range(16)] for epoch in range(3)]

    assert order.epoch == 16
    for visited in epochs:
        assert set(range(12)) == set(visited)
        batches = [visited[start : start + 4] for start in range(0, 16, 4)]
        assert all(1 == len({bucket_of[index] for index in batch}) for batch in batches)
    assert epochs[0] != epochs[1] != epochs[2]
    # any position can be asked for first
    backwards = BucketOrder(3, buckets, 4)
    assert [each for epoch in epochs for each in epoch] == [
        backwards.index(position) for position in reversed(range(48))
    ][::-1]


def test_the_batches_of_two_processes_are_those_of_one():
    def batches(processes: int, process: int) -> list[list[int]]:
        return list(BatchSampler(0, 6 // processes, 1, 4, processes, process))

    one, (first, second) = batches(1, 0), (batches(2, number) for number in range(2))

    assert one == [each for pair in zip(first, second, strict=True) for each in pair]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """Captioned images of several shapes."""
    folder = tmp_path_factory.mktemp("shapes")
    for number, (name, size) in enumerate(SHAPES.items()):
        Image.linear_gradient("L").rotate(90 * number).resize(size).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("a red bar")
    return folder


def test_an_example_has_the_shape_of_its_bucket_and_its_crop_can_be_repeated(shapes):
    samples = scan_dataset(shapes, Conditioning.TEXT).samples
    spec = InputSpec(8, 3, (4, 4, 4), True, range(1000), (bucket_sizes(8, 4),))
    options = Options(buckets=True, random_crop=True, batch_size=2)
    examples = Examples(samples, options, spec, None, None, None)

    found = [examples[position] for position in range(examples.order.epoch)]

    assert {(3, 4, 16), (3, 16, 4), (3, 8, 8), (3, 4, 12)} == {
        tuple(each.images.shape[1:]) for each in found
    }
    for position, each in enumerate(found):
        _, height, width = each.images.shape[1:]
        assert (4, height // 2, width // 2) == each.noise.shape[1:] == each.latent_noise.shape[1:]
        assert each.frames[0].tolist()[4:] == [height, width]
        assert each.images.equal(examples[position].images)
    assert all(
        a.images.shape == b.images.shape for a, b in zip(found[::2], found[1::2], strict=True)
    )


def test_pixels_of_a_bucket_are_a_crop_of_the_image_that_covers_it(tmp_path):
    Image.linear_gradient("L").resize((40, 10)).save(tmp_path / "a.png")
    (sample,) = scan_dataset(tmp_path, Conditioning.NONE).samples

    whole = read_pixels(sample, (40, 10), 1, (0.5, 0.5))
    part = read_pixels(sample, (20, 10), 1, (1.0, 0.0))

    assert (whole[:, :, 20:] == part).all()
    assert frame_of((40, 10), (20, 10), (1.0, 0.0), flipped=False) == (10, 40, 0, 20, 10, 20)


def record(out: Path) -> dict:
    return json.loads((out / "soupctl.json").read_text())


@pytest.fixture(scope="module")
def run(running, bases, shapes, tmp_path_factory) -> Path:
    """A run with buckets, a validation loss and mirror images."""
    out = tmp_path_factory.mktemp("buckets") / "run"
    running.run(bases["text"], shapes, out, running.ReporterSpy(), **options(shapes))
    return out


def options(shapes: Path) -> dict[str, object]:
    more = {"flip": True, "validate": str(shapes), "sample_every": 4, "sample_steps": 1}
    return {"buckets": True, "random_crop": True, "save_every": 2, **more}


def test_a_resumed_run_equals_an_uninterrupted_one(run, trained, shapes, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    shutil.rmtree(tmp_path / "run" / "model")

    trained("text", tmp_path / "run", data=shapes, **options(shapes))

    found, straight = record(tmp_path / "run"), record(run)
    assert found["weights"] == straight["weights"]
    assert found["raw_weights"] == straight["raw_weights"]
    assert found["validation"]["losses"] == straight["validation"]["losses"]


def test_buckets_are_planned_recorded_and_change_the_weights(
    run, running, bases, shapes, trained, tmp_path
):
    (prepared,) = running.prepared_runs(
        bases["text"], [shapes], tmp_path, epochs=3, steps=None, buckets=True
    )
    trained("text", tmp_path / "square", data=shapes, **{**options(shapes), "buckets": False})

    assert {"16x4": 2, "12x4": 1, "4x16": 1, "8x8": 1} == prepared.plan.buckets
    assert (8, 12) == (prepared.plan.epoch_images, prepared.plan.steps)
    assert "True" == record(run)["identity"]["buckets"]
    assert "buckets" not in record(tmp_path / "square")["identity"]
    assert record(run)["weights"] != record(tmp_path / "square")["weights"]


def test_cached_latents_have_the_shapes_of_the_buckets(trained, shapes, tmp_path):
    cached = {"buckets": True, "cache_latents": True, "steps": 6}
    trained("text", tmp_path / "run", data=shapes, **cached)

    assert len(SHAPES) == len(list((tmp_path / "run" / "latents").iterdir()))


def test_a_base_or_a_bank_of_one_size_refuses_buckets(running, bases, shards, tmp_path):
    with pytest.raises((MismatchError, UsageError)) as refusal:
        running.prepared_runs(bases["dit"], [shards["dit"]], tmp_path, buckets=True)
    assert refusal.value.message().endswith("supports only images of one size (remove --buckets)")
    with pytest.raises(UsageError, match="buckets work with finetune only"):
        running.patch(
            bases["text"], shards["text"], tmp_path, running.ReporterSpy(), {}, buckets=True
        )


def test_a_run_of_several_resolutions_is_planned_and_trains(running, bases, shapes, tmp_path):
    Image.linear_gradient("L").resize((40, 40)).save(tmp_path / "large.png")
    data = shutil.copytree(shapes, tmp_path / "data")
    shutil.move(tmp_path / "large.png", data / "large.png")
    (data / "large.txt").write_text("a red bar")
    more = {"buckets": True, "bucket_resolutions": (16,), "cache_latents": True, "steps": 6}

    spy = running.ReporterSpy()
    running.run(bases["text"], data, tmp_path / "run", spy, **more)

    (prepared,) = running.prepared_runs(bases["text"], [data], tmp_path / "plan", **more)
    plan = prepared.plan
    assert {"16x4": 2, "12x4": 1, "4x16": 1, "8x8": 1, "16x16": 1} == plan.buckets
    latents = sum(each.stat().st_size for each in (tmp_path / "run/latents").iterdir())
    assert plan.latents_bytes <= latents <= plan.latents_bytes + 6 * 512
    assert record(tmp_path / "run")["identity"]["bucket_resolutions"] == "16"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"buckets": True, "bucket_resolutions": (10,)},
            "bucket-resolutions in config is 10, but must be a multiple of 4",
        ),
        ({"bucket_resolutions": (16,)}, "bucket-resolutions in config needs buckets"),
        ({"buckets": True, "bucket_resolutions": (0,)}, "must be at least 1, not 0"),
    ],
)
def test_a_resolution_of_buckets_that_does_not_fit_is_refused(
    running, bases, shapes, tmp_path, more, told
):
    with pytest.raises((MismatchError, UsageError), match=told):
        running.prepared_runs(bases["text"], [shapes], tmp_path, **more)


def test_no_bucket_is_longer_than_the_positions_of_the_base(running, families, shapes, tmp_path):
    more = {"buckets": True, "resolution": 16}
    (prepared,) = running.prepared_runs(families["sd3"], [shapes], tmp_path, **more)

    assert {"16x16": len(SHAPES)} == prepared.plan.buckets
