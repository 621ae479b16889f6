"""Progress of training: time left, data shards, and a status line on a terminal alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from soupctl.cli import training_console
from soupctl.cli.training_console import duration_text, reporter, status

SHOWN = {"loss": 0.5, "lr": 1e-5, "rate": 2.0}


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The time, in seconds."""
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr(training_console.time, "monotonic", lambda: time.now)
    return time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (97_200, "1 d 3 h"),
    ],
)
def test_a_duration_is_shown_in_two_units_at_most(seconds, text):
    assert text == duration_text(seconds)


def test_lines_tell_the_time_left_from_the_steps_since_the_start(clock, capsys):
    lines = reporter(quiet=False, verbose=True)

    lines.begin(100, 200)
    clock.now += 30
    lines.show(SimpleNamespace(step=110, steps=200, **SHOWN))

    expected = "step 110/200  loss 0.50000  lr 1e-05  2 it/s  4 min 30 s left\n"
    assert ("", expected) == capsys.readouterr()


def test_lines_come_every_few_seconds_and_at_the_end(clock, capsys):
    lines = reporter(quiet=False, verbose=False)

    lines.begin(0, 4)
    for step in (1, 2, 3, 4):
        lines.show(SimpleNamespace(step=step, steps=4, **SHOWN))

    assert ["step 1/4", "step 4/4"] == [
        line.partition("  ")[0] for line in capsys.readouterr().err.splitlines()
    ]


def test_a_pipe_has_no_status_line(capsys):
    with status("Loading libraries", quiet=False) as stop:
        stop()

    assert ("", "") == capsys.readouterr()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(training_console, "is_terminal", lambda: True)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_has_a_status_line_that_goes_away(terminal, capsys):
    with status("Loading libraries", quiet=False):
        pass

    shown = capsys.readouterr().err
    assert "Loading libraries" in shown
    assert shown.endswith("\x1b[2K")


def test_quiet_has_no_status_line_on_a_terminal(terminal, capsys):
    with status("Loading libraries", quiet=True):
        pass

    assert ("", "") == capsys.readouterr()


def test_the_bar_takes_the_place_of_the_status_line_and_names_shard_and_time_left(
    terminal, clock, capsys
):
    with status("Loading the model", quiet=False) as loaded:
        bar = reporter(quiet=False, verbose=False, shard="2 of 4", on_begin=loaded)
        bar.begin(10, 30)
        clock.now += 50
        bar.step(20)
        bar.show(SimpleNamespace(step=20, steps=30, **SHOWN))
        bar.end()

    shown = capsys.readouterr().err
    assert shown.index("Loading the model") < shown.index("shard 2 of 4")
    assert "Loading the model" not in shown[shown.index("shard 2 of 4") :]
    assert "50 s left" in shown
    assert "loss 0.50000" in shown
