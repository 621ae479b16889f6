"""`sample`: images of checkpoints on disk, side by side, with and without banks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from terminal import Terminal

from soupctl.cli.progress import steps_progress

FEW = ("--steps", 2, "--images", 3)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def bank(tiny, bases):
    """Writes a bank for the base of a family: zero, unless it is to be of a size."""
    write = pytest.importorskip("tiny_banks").write_bank
    return lambda family, *words, **more: write(bases[family], *words, **more)


@pytest.mark.parametrize(
    ("family", "words"),
    [("text", ("--prompt", "a red circle", "--prompt", "")), ("class", ()), ("plain", ())],
)
def test_a_model_of_each_family_draws_the_same_grid_from_a_seed(soupctl, bases, family, words):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        done = soupctl("sample", bases[family], *FEW, *words, "--seed", seed, "-o", f"{name}.png")
        assert (0, "") == (done.code, done.out), done.err

    assert np.array_equal(pixels("one.png"), pixels("same.png"))
    assert not np.array_equal(pixels("one.png"), pixels("other.png"))


def test_each_image_starts_from_noise_of_its_own(soupctl, bases):
    assert soupctl("sample", bases["plain"], *FEW, "-o", "out").code == 0

    drawn = [pixels(f"out/{number:04}.png").tobytes() for number in range(3)]
    assert len(set(drawn)) == 3


def test_without_guidance_no_class_shows_and_no_class_is_none(soupctl, bases):
    def drawn(number: int, guidance: int) -> bytes:
        name = f"{number}-{guidance}"
        words = ("--class", number, "--guidance", guidance, "--images", 1, "--steps", 2)
        assert soupctl("sample", bases["dit"], *words, "-o", name).code == 0
        return pixels(f"{name}/0000.png").tobytes()

    (plain,) = {drawn(number, 0) for number in range(3)}
    assert plain not in {drawn(number, 1) for number in range(3)}


def test_images_that_are_not_finite_are_refused(soupctl, bases, tmp_path):
    shutil.copytree(bases["plain"], "broken")
    (weights,) = Path("broken").rglob("*.safetensors")
    tensors = load_file(weights)
    tensors["conv_in.weight"] = np.full_like(tensors["conv_in.weight"], np.nan)
    save_file(tensors, weights, {"format": "pt"})

    done = soupctl("sample", "broken", *FEW, "-o", "out.png")

    assert (3, "") == (done.code, done.out)
    assert "soupctl: broken: its images hold NaN or infinity" in done.err
    assert not Path("out.png").exists()


def test_models_with_equal_names_have_a_folder_each(tmp_path):
    save = pytest.importorskip("soupctl.images.save")
    compare, torch = pytest.importorskip("soupctl.images.compare"), pytest.importorskip("torch")
    models = [
        compare.ModelImages(name, torch.zeros(1, 1, 2, 2), ()) for name in ("p/b", "p-b", "p-b-2")
    ]

    save.save_images(models, tmp_path / "out", with_grid=False, replace=False)

    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert {"p-b", "p-b-2", "p-b-2-2"} == folders


def test_classes_of_any_number_are_shown_in_turn(soupctl, bases):
    assert soupctl("sample", bases["dit"], *FEW, "-o", "all").code == 0
    assert soupctl("sample", bases["dit"], *FEW, "--class", 1, "-o", "one").code == 0

    same = [
        np.array_equal(pixels(f"all/{number:04}.png"), pixels(f"one/{number:04}.png"))
        for number in range(3)
    ]
    assert [False, True, False] == same


def test_a_zero_bank_draws_the_images_of_its_base_and_a_trained_one_others(soupctl, bases, bank):
    bank("dit", "zero")
    bank("dit", "full", size=20.0)

    done = soupctl(
        *("sample", bases["dit"], "--bank", "zero", "--bank", "full", *FEW, "-o", "out"),
        *("--grid", "--json", "-q"),
    )

    assert (0, "") == (done.code, done.err)
    assert ["dit", "dit + zero", "dit + full"] == json.loads(done.out)["models"]
    own, zero, full = (
        np.stack([pixels(f"out/{name}/{number:04}.png") for number in range(3)])
        for name in ("dit", "dit + zero", "dit + full")
    )
    assert np.array_equal(own, zero)
    assert not np.array_equal(own, full)
    # three grids of two by two images of 64 pixels with 2 between, each image and grid labelled
    assert (20 + 2 * (20 + 64) + 2, 3 * 130 + 2 * 20, 3) == pixels("out/grid.png").shape


def test_several_checkpoints_are_shown_side_by_side(soupctl, bases, tiny):
    tiny.plain_base(Path("other"))

    done = soupctl("sample", bases["plain"], "other", *FEW, "-o", "grid.png")

    assert done.code == 0, done.err
    assert "plain: 3 images\nother: 3 images\n" == done.err
    picture = pixels("grid.png")[20:]
    assert np.array_equal(picture[:, :130], picture[:, 150:])


def test_an_output_is_replaced_only_if_that_is_asked_and_it_is_ones_own(soupctl, bases):
    words = ("sample", bases["plain"], "--steps", 1, "--images", 1)
    assert soupctl(*words, "-o", "out").code == 0
    refused = soupctl(*words, "-o", "out")
    replaced = soupctl(*words, "-o", "out", "-f")
    Path("out/mine.png").write_bytes(b"")
    foreign = soupctl(*words, "-o", "out", "-f")

    assert [6, 0, 6] == [refused.code, replaced.code, foreign.code]
    assert "mine.png" in {path.name for path in Path("out").iterdir()}


@pytest.mark.parametrize(
    ("family", "words", "code", "said"),
    [
        ("text", (), 2, "this model takes captions (add --prompt TEXT)"),
        ("plain", ("--prompt", "x"), 2, "this model takes no captions (remove --prompt)"),
        ("plain", ("--class", 1), 2, "this model takes no classes (remove --class)"),
        ("dit", ("--class", 3), 4, "this model has classes 0 to 2, but --class is 3"),
        ("plain", ("--images", 0), 2, "--images is 0, but must be at least 1"),
        ("plain", ("--guidance", "nan"), 2, "--guidance is nan, but must be 0 or more"),
        ("plain", ("--guidance", "inf"), 2, "--guidance is inf, but must be 0 or more"),
        ("plain", ("--steps", 1001), 4, "cannot be sampled in 1001 steps: it has 1000 timesteps"),
        # its scheduler takes each timestep one later
        ("text", ("--prompt", "x", "--steps", 1000), 4, "cannot be sampled in 1000 steps"),
        ("plain", ("--device", "abacus"), 2, "--device 'abacus' is not known"),
        ("plain", ("--device", "cuda:99"), 7, "there is no such GPU"),
        ("plain", ("--device", "cuda:0,1"), 2, "one device draws the images"),
        ("plain", ("--bank", "nowhere"), 3, "nowhere"),
        ("dit", ("--bank", "strange"), 4, "number of timesteps 500, but the base has 1000"),
        ("plain", ("--bank", "strange"), 4, "class DiTTransformer2DModel"),
        ("dit", ("--bank", "older", "--bank", "strange"), 4, "soupctl: older: was trained on"),
        ("dit", ("--bank", "older"), 4, "on a base with different weights"),
        ("class", ("--bank", "small", "--resolution", 16), 4, "8 by 8 pixels, and these are 16 by"),
        ("class", ("--bank", "small", "--resolution", 16), 4, "(--resize-prompts)"),
    ],
)
def test_an_impossible_drawing_is_refused_in_one_line(
    soupctl, bases, bank, family, words, code, said
):
    bank("dit", "strange", num_train_timesteps=500)
    bank("dit", "older", digest="blake3:" + 64 * "0")
    bank("class", "small")

    done = soupctl("sample", bases[family], *FEW, *words, "-o", "out.png")

    assert code == done.code, done.err
    assert said in done.err
    assert 1 == done.err.count("\n")
    assert not Path("out.png").exists()


def test_a_bank_of_other_weights_is_used_if_that_is_asked(soupctl, bases, bank):
    bank("dit", "older", digest="blake3:" + 64 * "0")

    done = soupctl(
        "sample", bases["dit"], *FEW, "--bank", "older", "--allow-base-mismatch", "-o", "out.png"
    )

    assert done.code == 0, done.err


def test_a_bank_is_used_at_another_size_if_that_is_asked(soupctl, bases, bank):
    bank("class", "zero")
    bank("class", "full", size=20.0)

    done = soupctl(
        *("sample", bases["class"], *FEW, "--resolution", 16, "--resize-prompts"),
        *("--bank", "zero", "--bank", "full", "-o", "out"),
    )

    assert done.code == 0, done.err
    own, zero, full = (
        pixels(f"out/{name}/0000.png") for name in ("class", "class + zero", "class + full")
    )
    assert (16, 16, 3) == own.shape
    assert np.array_equal(own, zero)
    assert not np.array_equal(own, full)


def test_each_image_of_a_grid_is_below_its_label(tiny):
    grid, torch = pytest.importorskip("soupctl.images.grid"), pytest.importorskip("torch")
    images = torch.linspace(-1, 1, 3 * 64 * 64).reshape(3, 1, 64, 64)
    labels = ("class 0", "class 1", "class 0")

    picture = np.asarray(grid.grid(images, labels))

    singles = [np.asarray(grid.as_picture(image)) for image in images]
    step, label = 64 + 20 + 2, 20
    tiles = [(0, 0), (0, 66), (step, 0)]
    for single, (top, left) in zip(singles, tiles, strict=True):
        assert np.array_equal(single, picture[top + label : top + step - 2, left : left + 64])
    first, second, third = (picture[top : top + label, left : left + 64] for top, left in tiles)
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)
    assert not (first == 255).all()


def test_each_row_of_a_grid_is_below_its_label(tiny):
    grid, torch = pytest.importorskip("soupctl.images.grid"), pytest.importorskip("torch")
    images = torch.rand(2, 3, 3, 64, 64)

    picture = np.asarray(grid.grid_of_rows(images, ["class cats", "class dogs"]))

    assert (2 * (20 + 64) + 2, 3 * 64 + 2 * 2, 3) == picture.shape
    assert not (picture[:20] == 255).all()
    assert not np.array_equal(picture[:20], picture[86:106])
    assert np.array_equal(np.asarray(grid.as_picture(images[1, 2])), picture[106:, 132:])


@pytest.mark.parametrize(
    ("label", "width", "expected"),
    [
        ("class 3", 64, "class 3"),
        ("a red circle\non a white ground", 300, "a red circle on a white ground"),
        ("a red circle on a white ground", 80, "a red ...round"),
        ("caf\u00e9 \u732b", 300, "caf\\xe9 \\u732b"),
        ("", 64, ""),
    ],
)
def test_a_label_that_is_too_long_loses_its_middle(tiny, label, width, expected):
    grid = pytest.importorskip("soupctl.images.grid")

    assert expected == grid.shortened(label, width)


@pytest.mark.parametrize(("filled", "batches"), [(0, 2), (9 * 3 * 8 * 8, 1)])
def test_progress_counts_the_denoising_steps_of_all_models(bases, monkeypatch, filled, batches):
    compare, torch = pytest.importorskip("soupctl.images.compare"), pytest.importorskip("torch")
    # so many numbers make a batch of small images: nine of them
    monkeypatch.setattr(compare, "FILLED", filled)
    request = compare.SampleRequest(images=9, steps=2, seed=1)
    counted = []

    models = compare.sample_models(
        [bases["plain"], bases["plain"]],
        [],
        request,
        torch.device("cpu"),
        on_step=lambda done, total: counted.append((done, total)),
    )

    assert [9, 9] == [len(each.images) for each in models]
    # two models, each with batches of eight or nine images, of two steps
    steps = 2 * batches * 2
    assert [(done, steps) for done in range(1, steps + 1)] == counted


def test_a_terminal_shows_how_many_denoising_steps_are_done(monkeypatch):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    with terminal.path.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)

        with steps_progress("denoising", quiet=False) as on_step:
            on_step(1, 4)
            on_step(4, 4)

    shown = terminal.shown()
    assert b"denoising" in shown
    assert b"4/4" in shown


def test_images_are_labelled_with_their_class_or_prompt(bases):
    compare, torch = pytest.importorskip("soupctl.images.compare"), pytest.importorskip("torch")
    labels = {}
    for family, prompts in (("dit", ()), ("text", ("a", "b")), ("plain", ())):
        request = compare.SampleRequest(prompts, images=4, steps=1)
        (model,) = compare.sample_models([bases[family]], [], request, torch.device("cpu"))
        labels[family] = model.labels

    expected = {
        "dit": ("class 0", "class 1", "class 2", "class 0"),
        "text": ("a", "b", "a", "b"),
        "plain": (),
    }
    assert expected == labels
