"""A tracker receives the metrics of metrics.jsonl, and writes into the run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soupctl.choices import Tracker
from soupctl.errors import LimitError

BOTH = [Tracker.TENSORBOARD, Tracker.WANDB]


@pytest.fixture(params=BOTH)
def recorded(request, tiny, monkeypatch):
    """A tracker of accelerate's that keeps what it is told, in the place of the one in question."""
    tracking = pytest.importorskip("accelerate").tracking
    kind = request.param

    class Recorder(tracking.GeneralTracker):
        name = kind.value
        requires_logging_directory = kind is Tracker.TENSORBOARD
        main_process_only = True
        made: list[Recorder] = []  # noqa: RUF012
        refuses = ""

        def __init__(self, *place: str, **more: object) -> None:
            super().__init__()
            self.place = [str(each) for each in place]
            self.more = more
            self.options: dict[str, str] = {}
            self.told: list[tuple[int, dict[str, float]]] = []
            self.ends: list[int] = []
            self.made.append(self)

        def start(self) -> None:
            if self.refuses:
                raise ValueError(self.refuses)

        @property
        def tracker(self) -> Recorder:
            return self

        def store_init_configuration(self, values: dict[str, str]) -> None:
            self.options = values

        def log(self, values: dict[str, float], step: int) -> None:
            assert not self.ends
            self.told.append((step, values))

        def finish(self, code: int = 0) -> None:
            self.ends.append(code)

    kinds = tracking.LOGGER_TYPE_TO_CLASS
    monkeypatch.setitem(kinds, kind.value, Recorder)
    found = [tracking.LoggerType(kind.value)]
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: found)
    return Recorder


def rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def weights(output: Path) -> str:
    return json.loads((output / "soupctl.json").read_text())["weights"]


def place_of(tracker) -> str:
    """The folder that a tracker was given."""
    if tracker.name == Tracker.WANDB:
        return tracker.more["dir"] + "/wandb"
    name, folder = tracker.place
    return f"{folder}/{name}"


def test_a_tracker_receives_the_metrics_in_the_folder_of_its_run(recorded, trained, tmp_path):
    output = tmp_path / "run"

    spy = trained("plain", output, log_with=Tracker(recorded.name))

    (tracker,) = recorded.made
    names = ("loss", "lr", "grad_norm", "epoch")
    expected = [(row["step"], {name: row[name] for name in names}) for row in rows(output)]
    assert [1, 2, 3, 4] == [step for step, _ in tracker.told]
    assert expected == tracker.told
    assert [0] == tracker.ends
    assert f"{output}/{recorded.name}" == place_of(tracker)
    assert f"{recorded.name}: {output}/{recorded.name}" in spy.said
    if recorded.name == Tracker.WANDB:
        assert "0.001" == tracker.options["lr"]


def test_a_tracker_changes_no_weight(recorded, trained, tmp_path):
    trained("plain", tmp_path / "without")
    trained("plain", tmp_path / "with", log_with=Tracker(recorded.name))

    assert weights(tmp_path / "without") == weights(tmp_path / "with")


class Impatient(BaseException):
    """What a second signal raises, wherever the run is."""


def test_a_tracker_ends_with_an_interrupted_run_and_a_new_one_continues(
    recorded, running, bases, shards, tmp_path
):
    class RaisingReporter(running.ReporterSpy):
        def step(self, step: int) -> None:
            super().step(step)
            if step == 3:
                raise Impatient

    words = bases["plain"], shards["plain"], tmp_path / "run"
    more = {"log_with": Tracker(recorded.name), "save_every": 2}
    with pytest.raises(Impatient):
        running.run(*words, RaisingReporter(), **more)
    running.run(*words, running.ReporterSpy(), **more)

    first, second = recorded.made
    assert [1, 2] == [step for step, _ in first.told]
    assert [3, 4] == [step for step, _ in second.told]
    if recorded.name == Tracker.WANDB:
        assert ([1], [0]) == (first.ends, second.ends)
        assert ["auto", "auto"] == [each.more["resume"] for each in recorded.made]
    else:
        assert ([0], [0]) == (first.ends, second.ends)
        assert [1, 3] == [each.more["purge_step"] for each in recorded.made]


def test_each_run_of_a_command_has_a_tracker_of_its_own(recorded, running, bases, shards, tmp_path):
    options = running.Options(**running.SHORT, log_with=Tracker(recorded.name))
    requests = [
        running.RunRequest(bases["plain"], shards["plain"], tmp_path / name, options)
        for name in ("one", "other")
    ]
    for run in running.prepare(requests, running.start_accelerator(options)):
        running.finetune(run, running.ReporterSpy())

    assert [4, 4] == [len(each.told) for each in recorded.made]
    assert [[0], [0]] == [each.ends for each in recorded.made]
    places = [f"{tmp_path}/{name}/{recorded.name}" for name in ("one", "other")]
    assert places == [place_of(each) for each in recorded.made]


def test_a_tracker_that_cannot_start_is_refused_in_one_line(recorded, trained, tmp_path):
    recorded.refuses = "No API key configured.\nUse another."

    with pytest.raises(LimitError) as refusal:
        trained("plain", tmp_path / "run", log_with=Tracker(recorded.name))

    expected = f"{tmp_path}/run: {recorded.name} cannot start: No API key configured."
    assert expected == refusal.value.message()
    assert [[]] == [each.ends for each in recorded.made]


@pytest.mark.parametrize("kind", BOTH)
def test_a_missing_tracker_is_refused_before_anything_is_written(
    trained, tmp_path, monkeypatch, kind
):
    tracking = pytest.importorskip("accelerate").tracking
    monkeypatch.setattr(tracking, "get_available_trackers", list)

    with pytest.raises(LimitError) as refusal:
        trained("plain", tmp_path / "run", log_with=kind)

    name = kind.value
    expected = f"log-with in --config needs {name}, which is not installed (pip install {name})"
    assert expected == refusal.value.message()
    assert 7 == refusal.value.exit_code
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_each_step_once_where_it_is_installed(trained, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import event_accumulator  # noqa: PLC0415

    more = {"log_with": Tracker.TENSORBOARD, "save_every": 2}
    trained("plain", tmp_path / "run", steps=4, **more)
    trained("plain", tmp_path / "run", steps=6, **more)

    shown = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    found = [(each.step, each.value) for each in shown.Scalars("loss")]
    expected = [(row["step"], pytest.approx(row["loss"])) for row in rows(tmp_path / "run")]
    assert expected == found
