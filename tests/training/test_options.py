"""Options are checked before anything is loaded, and each is of one of two kinds."""

from __future__ import annotations

from dataclasses import fields

import pytest

from soupctl.choices import Schedule
from soupctl.errors import InputError, UsageError
from soupctl.training.options import TIME_ONLY, Options, read_config

RECIPE = {
    "batch_size",
    "cache_latents",
    "caption_column",
    "classes",
    "cond_drop",
    "ema",
    "ema_decay",
    "flip",
    "grad_accum",
    "lr",
    "lr_schedule",
    "max_grad_norm",
    "noise_offset",
    "optimizer",
    "precision",
    "prediction",
    "random_crop",
    "resolution",
    "save_dtype",
    "seed",
    "snr_gamma",
    "steps",
    "warmup",
    "weight_decay",
}


def test_every_option_changes_either_numbers_or_time():
    assert {each.name for each in fields(Options)} == RECIPE | TIME_ONLY
    assert set() == RECIPE & TIME_ONLY


def test_what_tells_runs_apart_are_the_options_that_change_numbers():
    assert set(Options(lr_schedule=Schedule.COSINE).numbers) == RECIPE


def test_a_run_at_a_constant_rate_can_be_made_longer():
    assert Options(steps=10).numbers == Options(steps=20).numbers
    schedule = Schedule.LINEAR
    short, long = (Options(steps=n, lr_schedule=schedule) for n in (10, 20))
    assert short.numbers != long.numbers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "--steps is 0, which is less than 1"),
        ({"steps": 1, "epochs": 1}, "--steps and --epochs are both given: choose one"),
        ({"lr": 0.0}, "--lr is 0.0, which is not positive and at most 1e+38"),
        ({"lr": float("nan")}, "--lr is nan, which is not positive and at most 1e+38"),
        ({"lr": 1e300}, "--lr is 1e+300, which is not positive and at most 1e+38"),
        ({"snr_gamma": 0.0}, "snr-gamma in --config is 0.0, which is not positive (5 is usual)"),
        ({"guidance": float("inf")}, "guidance in --config is inf, which is no number from 0 up"),
        ({"cond_drop": 1.5}, "--cond-drop is 1.5, which is not between 0 and 1"),
        (
            {"cache_latents": True, "random_crop": True},
            "cache-latents and random-crop exclude each other: a cached crop is never drawn",
        ),
        (
            {"batch_size": 0, "keep": 0},
            "--batch-size is 0, which is less than 1; keep in --config is 0, which is less than 1",
        ),
        ({"classes": ("a", "a")}, "a name occurs twice in classes"),
    ],
)
def test_what_no_run_could_have_is_refused_at_once(values, message):
    with pytest.raises(UsageError) as refusal:
        Options(**values)

    assert message == str(refusal.value)


def test_a_config_is_toml_with_the_options_names(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('lr = 1\nlr-schedule = "cosine"\nprompt = ["a", "b"]\nema = false\n')

    found = read_config(path)

    assert found == {
        "lr": 1.0,
        "lr_schedule": Schedule.COSINE,
        "prompt": ("a", "b"),
        "ema": False,
    }
    assert type(found["lr"]) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate = 1", "'learning_rate' is not an option"),
        ("steps = 1.5", "steps = 1.5 is not a whole number"),
        ("steps = true", "steps = True is not a whole number"),
        ('lr = "fast"', "lr = 'fast' is not a number"),
        ("ema = 1", "ema = 1 is not true or false"),
        ("prompt = [1]", "prompt = [1] is not a list of texts"),
        ("precision = 'fp8'", "precision = 'fp8' is not one of no, bf16, fp16"),
    ],
)
def test_a_config_with_what_is_no_option_is_refused(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)

    with pytest.raises(UsageError) as refusal:
        read_config(path)

    assert f"{path}: {message}" == str(refusal.value)


def test_a_config_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("lr = ")

    with pytest.raises(InputError, match="is not valid TOML"):
        read_config(path)
