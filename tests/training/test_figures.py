"""Figures of gates and losses: what is drawn where, on which scale, and with which words."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image


def survey_of(weights, strength=None, *, name="", **config):
    """The survey of one bank for a transformer whose blocks have these weights, [T, rows] each."""
    torch = pytest.importorskip("torch")
    surveys = pytest.importorskip("soupctl.banks.gate_survey")
    banks = pytest.importorskip("soupctl.banks.config")
    count, rows = weights[0].shape
    sites = tuple(
        banks.Site(f"transformer_blocks.{depth}", depth, (rows, 8)) for depth in range(len(weights))
    )
    base = banks.BaseDescription("DiTTransformer2DModel", sites, (4, 4), 8)
    strength = torch.ones(count) if strength is None else strength
    blocks = tuple(
        surveys.BlockSurvey(site, each, torch.special.entr(each).sum(dim=1), strength)
        for site, each in zip(sites, weights, strict=True)
    )
    timesteps = tuple(range(count))
    return surveys.Survey(name, banks.BankConfig(base, **config), 1.0, timesteps, (), 0, blocks)


def axes_of(figure):
    """The plots of a figure by their names, without the colour scales."""
    return {axes.get_label(): axes for axes in figure.get_axes() if axes.get_label()[:1] != "<"}


def cells(axes) -> np.ndarray:
    """The values of a heat map as they are shown, from the upper left corner."""
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def test_a_gate_figure_shows_every_block_at_every_timestep_from_noise_to_image(tiny):
    torch = pytest.importorskip("torch")
    plots = pytest.importorskip("soupctl.images.plots")
    uniform = torch.full((10, 4), 0.25).double()
    collapsed = torch.zeros(10, 4).double()
    collapsed[:, 0] = 1
    moving = torch.eye(4).double().repeat(3, 1)[:10]
    rising = torch.linspace(0, 1, 10).double()

    figure = plots.gate_figure([survey_of([uniform, collapsed, moving], rising)], "title")

    axes = axes_of(figure)
    assert {"in use", "change", "strength", "weights", "maps"} == axes.keys()
    in_use, change, strength = (cells(axes[name]) for name in ("in use", "change", "strength"))
    assert np.allclose([[100] * 10, [25] * 10, [25] * 10], in_use)
    assert [0, 0] == change[:2].max(axis=1).tolist()
    # each of two prompts is used alone in three of ten steps, each of the two others in two
    expected = [100 * (0.7 if timestep % 4 < 2 else 0.8) for timestep in range(10)]
    assert np.allclose(expected[::-1], change[2])
    # the last timestep comes first
    assert np.array_equal([rising.flip(0).tolist()] * 3, strength)
    for name in ("in use", "change", "strength"):
        left, right = axes[name].get_xlim()
        assert (9.5, -0.5) == (left, right)
        assert "timestep (noise \N{RIGHTWARDS ARROW} image)" == axes[name].get_xlabel()
        names = [label.get_text() for label in axes[name].get_yticklabels()]
        assert ["block 0", "block 1", "block 2"] == names


def test_weights_are_shown_beside_equal_ones_over_time_and_in_place(tiny):
    torch = pytest.importorskip("torch")
    plots = pytest.importorskip("soupctl.images.plots")
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125]]).double()

    axes = axes_of(plots.gate_figure([survey_of([weights, weights.flip(1)])], "title"))

    # powers of two of an equal weight; the last timestep is on the left
    assert [[1, 0], [0, 0], [-1, 0], [-1, 0]] == cells(axes["weights"])[:4].tolist()
    assert [[-1, 0], [-1, 0], [0, 0], [1, 0]] == cells(axes["weights"])[4:].tolist()
    assert [[1, 0, 0, 0], [-1, -1, 0, 0]] == cells(axes["maps"])[:2].tolist()
    assert [[-1, -1, 0, 0], [0, 1, 0, 0]] == cells(axes["maps"])[2:].tolist()
    assert ["1", "0"] == [label.get_text() for label in axes["maps"].get_xticklabels()]


def test_weights_that_top_k_drops_are_not_on_the_scale(tiny):
    torch = pytest.importorskip("torch")
    plots = pytest.importorskip("soupctl.images.plots")
    config = pytest.importorskip("soupctl.banks.config")
    weights = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75]]).double()
    mixture = {"gate": config.GateKind.MIXTURE, "num_prompts": 4}

    kept = survey_of([weights], topk=0.5, **mixture)
    all_kept = survey_of([weights], **mixture)
    (dropped, small) = (axes_of(plots.gate_figure([each], "")) for each in (kept, all_kept))

    # prompts have no positions
    assert {"in use", "change", "strength", "weights"} == dropped.keys()
    (image,) = dropped["weights"].get_images()
    mask = [[True, False], [True, False], [False, True], [False, True]]
    assert mask == image.get_array().mask.tolist()
    (image,) = small["weights"].get_images()
    assert not np.ma.is_masked(image.get_array())
    # the scale is even on both sides, and a zero does not stretch it beyond an eighth
    assert (-3.0, 3.0) == (image.norm.vmin, image.norm.vmax)


def test_banks_of_a_stack_share_each_colour_scale(tiny):
    torch = pytest.importorskip("torch")
    plots = pytest.importorskip("soupctl.images.plots")
    uniform = torch.full((3, 4), 0.25).double()
    weak, strong = (
        survey_of([uniform], torch.full((3,), strength), name=name)
        for name, strength in (("weak", 1.0), ("strong", 4.0))
    )

    figure = plots.gate_figure([weak, strong], "two banks")

    for name in ("in use", "change", "strength", "weights", "maps"):
        images = [
            image
            for axes in figure.get_axes()
            if axes.get_label() == name
            for image in axes.get_images()
        ]
        assert 2 == len(images)
        assert images[0].norm.vmin == images[1].norm.vmin
        assert images[0].norm.vmax == images[1].norm.vmax
    assert 4.0 == axes_of(figure)["strength"].get_images()[0].norm.vmax
    scales = [axes.get_ylabel() for axes in figure.get_axes() if axes.get_label() == "<colorbar>"]
    assert (
        2 * ["% of the weights", "% off the mean", "RMS added", "times an equal weight"] == scales
    )
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles[0].startswith("weak, with weight 1: token gate, input: time, weighs 4 positions")
    assert "two banks" == figure.get_suptitle()


def test_a_loss_figure_has_named_axes_and_a_legend(tiny):
    plots = pytest.importorskip("soupctl.images.plots")

    figure = plots.loss_figure([10, 20, 30], [3.0, 1.0, 2.0], [3.0, 2.5, 2.25])

    (axes,) = figure.get_axes()
    assert ("step", "loss") == (axes.get_xlabel(), axes.get_ylabel())
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert ["loss", "smoothed loss"] == texts
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    expected = {
        "loss": [[10, 3], [20, 1], [30, 2]],
        "smoothed loss": [[10, 3], [20, 2.5], [30, 2.25]],
    }
    assert expected == lines
    figure.draw_without_rendering()
    ticks = [float(label.get_text().replace(",", "")) for label in axes.get_xticklabels()]
    assert all(tick.is_integer() for tick in ticks)


def test_equal_input_gives_an_equal_plot_whatever_the_user_has_set(tiny, monkeypatch):
    plots = pytest.importorskip("soupctl.images.plots")
    matplotlib = pytest.importorskip("matplotlib")
    points = ([1, 2], [2.0, 1.0], [2.0, 1.9])

    first = plots.loss_plot(*points)
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30)
    second = plots.loss_plot(*points)

    assert first == second
    assert b"matplotlib" not in first.lower()
    assert 30 == matplotlib.rcParams["font.size"]
    assert "matplotlib.pyplot" not in sys.modules


def test_one_loss_is_a_point_that_shows(tiny):
    plots = pytest.importorskip("soupctl.images.plots")

    one, none = (
        np.asarray(Image.open(io.BytesIO(plots.loss_plot(*points))))
        for points in (([5], [0.5], [0.5]), ([5], [float("nan")], [float("nan")]))
    )

    assert (one[..., :3] != none[..., :3]).any()


def test_text_that_the_font_lacks_is_escaped_in_a_title(tiny):
    torch = pytest.importorskip("torch")
    plots = pytest.importorskip("soupctl.images.plots")

    figure = plots.gate_figure([survey_of([torch.full((2, 4), 0.25)])], "gates of \u732b\n$x_1$")

    assert "gates of \\u732b\\n$x_1$" == figure.get_suptitle()
    # nothing is warned of, and no formula is read
    figure.draw_without_rendering()
