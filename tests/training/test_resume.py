"""An interrupted and resumed run equals an uninterrupted one, bit for bit, on one machine."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import diffusers
import pytest
from commands import wait_for

from soupctl.choices import Schedule
from soupctl.errors import InputError, OutputError, TrainingError
from soupctl.storage import partial
from soupctl.training import checkpoint

STEPS = 20


def words(base, data, output, *more):
    return (
        "finetune",
        base,
        *("--data", data, "-o", output, "--steps", STEPS, "--lr", 1e-3),
        *("--batch-size", 2, "--save-every", 5, *more),
    )


def hashes(output: str) -> dict[str, str]:
    """SHA-256 of the weights that a run ended with, their mean and the raw ones."""
    found = sorted(Path(output).glob("*/*/diffusion_pytorch_model.safetensors"))
    own = [path for path in found if path.parent.name in {"unet", "transformer"}]
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in own
    }


@pytest.fixture(scope="module")
def run_of_four_steps(running, bases, shards, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "run"
    running.run(bases["plain"], shards["plain"], output, running.ReporterSpy(), save_every=2)
    return output


@pytest.fixture
def finished(run_of_four_steps, tmp_path) -> Path:
    """A finished run of four steps with a checkpoint after two and four, for a test to change."""
    return Path(shutil.copytree(run_of_four_steps, tmp_path / "run"))


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(soupctl, bases, shards):
    base, data = bases["text"], shards["text"]
    straight = soupctl(*words(base, data, "straight"))
    reached = Path("killed/checkpoints/step-000010")
    killed = soupctl.start(*words(base, data, "killed"), held_after=reached)
    wait_for(reached)
    os.kill(killed, signal.SIGKILL)
    ended = soupctl.wait(killed)

    resumed = soupctl(*words(base, data, "killed"))

    assert (0, -signal.SIGKILL, 0) == (straight.code, ended.code, resumed.code), resumed.err
    assert "resuming from killed/checkpoints/step-0000" in resumed.err
    assert {"model/unet", "raw/unet"} == {str(Path(name).parent) for name in hashes("straight")}
    assert hashes("straight") == hashes("killed")


def test_a_kill_at_any_sync_loses_no_more_than_the_steps_since_the_last_checkpoint(
    soupctl, bases, shards
):
    base, data = bases["plain"], shards["plain"]
    short = ("--steps", 6, "--save-every", 2)
    assert soupctl(*words(base, data, "straight"), *short).code == 0
    expected = hashes("straight")

    number, codes = 1, []
    while not codes or codes[-1] == -signal.SIGKILL:
        output = f"killed{number}"
        ended = soupctl(*words(base, data, output), *short, killed_at_sync=number)
        codes.append(ended.code)
        resumed = soupctl(*words(base, data, output), *short)
        assert resumed.code == 0, (number, resumed.err)
        assert expected == hashes(output), number
        assert not [path for path in Path(output).rglob(".*") if path.is_dir()]
        # a step that shares no factor with the syncs of a checkpoint meets each kind of them
        number += 7

    assert codes[-1] == 0
    assert len(codes) > 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_resume(soupctl, bases, shards, number, code):
    base, data = bases["plain"], shards["plain"]
    Path("often.toml").write_text("log-every = 1")
    seldom = ("--save-every", 1000, "--config", "often.toml")
    # so many steps that it cannot end before the signal comes
    started = soupctl.start(*words(base, data, "stopped", *seldom, "--steps", 100_000))
    wait_for(Path("stopped/metrics.jsonl"), lines=3)
    os.kill(started, number)
    stopped = soupctl.wait(started)
    step = len(Path("stopped/metrics.jsonl").read_text().splitlines())

    assert code == stopped.code
    lines = stopped.err.splitlines()
    if number == signal.SIGINT:
        assert "soupctl: interrupted" == lines.pop()
    last = lines[-1]
    assert last.startswith(f"stopped: step {step} of 100000 is saved; to resume: soupctl finetune")
    assert "Traceback" not in stopped.err
    for output in ("straight", "stopped"):
        assert soupctl(*words(base, data, output, *seldom, "--steps", step + 3)).code == 0
    assert hashes("straight") == hashes("stopped")


def test_a_full_disk_keeps_the_last_good_checkpoint(trained, tmp_path, monkeypatch):
    real = partial.allocate

    def allocate(fd: int, size: int) -> None:
        if (tmp_path / "full" / "checkpoints" / "step-000002").exists() and size > 10_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, size)

    more = {"steps": 6, "save_every": 2}
    trained("plain", tmp_path / "straight", **more)
    monkeypatch.setattr(partial, "allocate", allocate)
    with pytest.raises(OutputError, match="bytes of disk"):
        trained("plain", tmp_path / "full", **more)
    monkeypatch.undo()
    kept = sorted(path.name for path in (tmp_path / "full" / "checkpoints").iterdir())
    spy = trained("plain", tmp_path / "full", **more)

    assert kept == ["latest", "step-000002"]
    assert spy.steps == [3, 4, 5, 6]
    assert hashes(str(tmp_path / "straight")) == hashes(str(tmp_path / "full"))


def test_weights_that_are_not_finite_are_never_saved(trained, tmp_path):
    # the loss of the first step is finite, and its decay takes the weights out of float32
    more = {"lr": 3.3e37, "weight_decay": 10.0, "save_every": 1}

    with pytest.raises(TrainingError, match="not finite after step 1; no checkpoint was saved"):
        trained("plain", tmp_path / "run", **more)

    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_damaged_checkpoint_is_skipped_and_reported(trained, finished):
    more = {"steps": 4, "save_every": 2}
    record = finished / "soupctl.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    torn = finished / "checkpoints" / "step-000004"
    (torn / "model.safetensors").write_bytes(b"torn")

    spy = trained("plain", finished, **more)

    assert spy.steps == [3, 4]
    assert spy.said[0] == f"skipped: {torn}: is damaged: its files are not those of its manifest"


@pytest.mark.parametrize(
    "change",
    [{"step": -1}, {"step": True}, {"identity": []}, {"optimizer": []}, {"files": None}],
    ids=str,
)
def test_an_invalid_manifest_is_skipped(trained, finished, change):
    last = finished / "checkpoints" / "step-000004"
    manifest = json.loads((last / checkpoint.MANIFEST).read_text())
    (last / checkpoint.MANIFEST).write_text(json.dumps(manifest | change))

    spy = trained("plain", finished, steps=5, save_every=2)

    assert spy.said[0].startswith(f"skipped: {last}: is damaged: ")
    assert spy.steps == [3, 4, 5]


@pytest.mark.parametrize("change", [{"ema_steps": None}, {"optimizer": {"x.y": 1}}], ids=str)
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(trained, finished, change):
    last = finished / "checkpoints" / "step-000004"
    manifest = json.loads((last / checkpoint.MANIFEST).read_text())
    (last / checkpoint.MANIFEST).write_text(json.dumps(manifest | change))

    with pytest.raises(InputError, match="cannot be restored: "):
        trained("plain", finished, steps=5)


@pytest.mark.parametrize("change", [{"steps": "many"}, {"weights": None}], ids=str)
def test_a_finished_record_without_a_result_is_refused_in_one_line(trained, finished, change):
    record = finished / "soupctl.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))

    with pytest.raises(
        InputError, match="is not a valid record of a run: a finished run needs steps and weights"
    ):
        trained("plain", finished)


def test_a_signal_during_the_report_of_the_last_step_stops_before_publishing(
    running, bases, shards, tmp_path
):
    class InterruptingReporter(running.ReporterSpy):
        def show(self, progress) -> None:
            if progress.step == progress.steps:
                signal.raise_signal(signal.SIGINT)

    words = bases["plain"], shards["plain"], tmp_path / "run"
    spy = InterruptingReporter()
    with pytest.raises(KeyboardInterrupt):
        running.run(*words, spy)
    found = (tmp_path / "run" / "model").exists()
    running.run(*words, running.ReporterSpy())

    assert spy.said[-1].startswith("stopped: step 4 of 4 is saved; to resume: ")
    assert (False, True) == (found, (tmp_path / "run" / "model").exists())


def test_a_finished_run_is_not_repeated(trained, finished):

    spy = trained("plain", finished)

    assert spy.steps == []


def test_a_finished_run_reports_its_number_of_steps(running, bases, shards, tmp_path):
    words = bases["plain"], shards["plain"], tmp_path / "run"
    first = running.run(*words, running.ReporterSpy(), steps=4)

    again = running.run(*words, running.ReporterSpy(), steps=3)

    assert (4, False, 4, True) == (
        *(first.steps, first.was_complete),
        *(again.steps, again.was_complete),
    )


def test_a_deleted_result_is_published_again(trained, finished):
    made = hashes(str(finished))
    shutil.rmtree(finished / "model")

    spy = trained("plain", finished)

    assert spy.steps == []
    assert made == hashes(str(finished))


@pytest.mark.parametrize("family", ["text", "class", "dit", "plain"])
def test_a_finished_run_at_a_constant_rate_can_be_extended(trained, tmp_path, family):
    trained(family, tmp_path / "straight", steps=6)
    trained(family, tmp_path / "longer", steps=4)

    spy = trained(family, tmp_path / "longer", steps=6)

    assert spy.steps == [5, 6]
    assert hashes(str(tmp_path / "straight")) == hashes(str(tmp_path / "longer"))


def test_a_run_that_is_beyond_the_steps_asked_for_says_how_far_it_is(trained, finished):
    record = finished / "soupctl.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))

    with pytest.raises(OutputError) as refusal:
        trained("plain", finished, steps=3)

    told = f"{finished}/checkpoints/step-000004: is already at step 4, after the last step, 3"
    assert refusal.value.message() == f"{told} (increase --steps)"


def test_a_run_with_a_finite_schedule_cannot_be_extended(trained, tmp_path):
    more = {"lr_schedule": Schedule.COSINE, "steps": None}
    trained("plain", tmp_path / "run", epochs=1, **more)

    with pytest.raises(OutputError, match="steps is 3 there and 6 here"):
        trained("plain", tmp_path / "run", epochs=2, **more)


def test_a_run_can_resume_from_a_named_checkpoint(trained, tmp_path):
    trained("plain", tmp_path / "run", steps=6, save_every=2)
    first = tmp_path / "run" / "checkpoints" / "step-000004"

    spy = trained("plain", tmp_path / "other", steps=6, save_every=2, resume=str(first))

    assert spy.steps == [5, 6]
    assert hashes(str(tmp_path / "run")) == hashes(str(tmp_path / "other"))


def test_metrics_hold_each_step_once_however_often_a_run_was_interrupted(trained, finished):
    record = finished / "soupctl.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    checkpoint.remove_checkpoint(finished / "checkpoints" / "step-000004")

    trained("plain", finished, steps=4, save_every=2)

    rows = (finished / "metrics.jsonl").read_text().splitlines()
    assert [1, 2, 3, 4] == [json.loads(row)["step"] for row in rows]


def test_metrics_are_valid_json_when_a_gradient_is_infinite(tiny, running, bases, shards, tmp_path):
    # the loss is finite in float32, and the sum of the gradients' squares is not
    steep = diffusers.UNet2DModel.from_pretrained(bases["plain"] / "unet")
    steep.conv_norm_out.weight.data *= 1000
    steep.save_pretrained(tmp_path / "base")
    running.run(
        tmp_path / "base",
        shards["plain"],
        tmp_path / "run",
        running.ReporterSpy(),
        noise_offset=1e17,
    )

    line = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0]

    assert json.loads(line, parse_constant=pytest.fail)["grad_norm"] is None
