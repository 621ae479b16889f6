"""The smoothed loss that a run reports and plots."""

from __future__ import annotations

import pytest

from soupctl.training.metrics import SMOOTHING, read_metrics, smoothed


def test_a_constant_loss_is_its_own_average():
    assert smoothed([0.25] * 50) == pytest.approx([0.25] * 50)


def test_the_first_losses_weigh_no_more_than_later_ones():
    losses = [9.0, 1.0, 1.0, 1.0, 1.0]

    for count, average in enumerate(smoothed(losses), 1):
        weights = [SMOOTHING**age for age in reversed(range(count))]
        expected = sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights)
        assert average == pytest.approx(expected)


def test_the_reported_loss_is_the_plotted_one_also_after_a_resume(running, bases, shards, tmp_path):
    arguments = bases["plain"], shards["plain"], tmp_path / "run"
    reporters = running.ReporterSpy(), running.ReporterSpy()
    for reporter, steps in zip(reporters, (3, 6), strict=True):
        running.run(*arguments, reporter, steps=steps)

    plotted = smoothed(row["loss"] for row in read_metrics(tmp_path / "run"))

    shown = [progress.loss for reporter in reporters for progress in reporter.shown]
    assert len(plotted) == 6
    assert shown == plotted
