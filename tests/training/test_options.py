"""Options are checked before anything is loaded, and each is of one of two kinds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soupctl.choices import Schedule, WeightDtype, Weighting
from soupctl.errors import InputError, UsageError
from soupctl.training.config_file import read_config
from soupctl.training.option_fields import options_of
from soupctl.training.options import Options

CHANGE_WEIGHTS = {
    "batch_size",
    "bucket_resolutions",
    "buckets",
    "cache_latents",
    "cache_texts",
    "caption_column",
    "classes",
    "cond_drop",
    "ema",
    "ema_decay",
    "ema_on_cpu",
    "ema_tracks",
    "flip",
    "grad_accum",
    "guidance_embedding",
    "logit_mean",
    "logit_std",
    "lr",
    "lr_schedule",
    "masked_loss",
    "max_grad_norm",
    "mode_scale",
    "noise_offset",
    "optimizer",
    "precision",
    "precondition_outputs",
    "prediction",
    "random_crop",
    "regularization_weight",
    "resolution",
    "save_dtype",
    "seed",
    "shift",
    "snr_gamma",
    "steps",
    "timesteps",
    "train_text_encoder",
    "warmup",
    "weight_decay",
    "weight_dtype",
    "weighting",
}

FOR_FLOW = {
    "guidance_embedding",
    "logit_mean",
    "logit_std",
    "mode_scale",
    "precondition_outputs",
    "shift",
    "weighting",
}
"""Options of flow matching."""

UNRECORDED_UNSET = FOR_FLOW | {
    *(
        "bucket_resolutions",
        "buckets",
        "cache_texts",
        "masked_loss",
        "regularization_weight",
        "timesteps",
        "train_text_encoder",
    ),
    *("ema_on_cpu", "ema_tracks", "weight_dtype"),
}
"""Options that came later: a run that does not set them is the one that it was before them."""


CHANGE_TIME_ALONE = {
    "caption_files",
    "regularization",
    "repeats",
    "epochs",
    "fused_backward",
    "grad_checkpointing",
    "guidance",
    "keep",
    "log_every",
    "log_with",
    "prompt",
    "sample_every",
    "sample_grid",
    "sample_steps",
    "save_every",
    "save_as",
    "skip_bad",
    "validate",
    "validate_every",
    "validate_share",
    "workers",
}


def test_every_option_is_known_to_change_weights_or_to_change_time_alone():
    infos = options_of(Options)

    assert CHANGE_WEIGHTS == {name for name, info in infos.items() if info.changes_weights}
    assert CHANGE_TIME_ALONE == set(infos) - CHANGE_WEIGHTS


def test_the_identity_of_a_run_holds_the_options_that_change_weights():
    plain = Options(lr_schedule=Schedule.COSINE)
    assert set(plain.numbers) == CHANGE_WEIGHTS - UNRECORDED_UNSET
    flow = dict.fromkeys(FOR_FLOW, 2.0)
    flow |= {"weighting": Weighting.MODE, "precondition_outputs": True}
    later = {
        "bucket_resolutions": (768,),
        "cache_texts": True,
        "masked_loss": True,
        "regularization_weight": 0.5,
        "ema_on_cpu": True,
        "ema_tracks": "0.1",
        "weight_dtype": WeightDtype.BFLOAT16,
    }
    chosen = replace(
        plain, timesteps="0:500", buckets=True, train_text_encoder=True, **flow, **later
    )
    assert set(chosen.numbers) == CHANGE_WEIGHTS


def test_a_run_at_a_constant_rate_can_be_made_longer():
    assert Options(steps=10).numbers == Options(steps=20).numbers
    schedule = Schedule.LINEAR
    short, long = (Options(steps=n, lr_schedule=schedule) for n in (10, 20))
    assert short.numbers != long.numbers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "--steps must be at least 1, not 0"),
        ({"steps": 1, "epochs": 1}, "--steps and --epochs exclude each other: give one of them"),
        ({"lr": 0.0}, "--lr must be positive, not 0.0"),
        ({"lr": float("nan")}, "--lr must be a finite number, not nan"),
        ({"lr": 1e300}, "--lr must be at most 1e+38, not 1e+300"),
        ({"snr_gamma": 0.0}, "snr-gamma in --config must be positive, not 0.0"),
        ({"guidance": float("inf")}, "guidance in --config must be a finite number, not inf"),
        ({"cond_drop": 1.5}, "--cond-drop must be between 0 and 1, not 1.5"),
        (
            {"cache_latents": True, "random_crop": True},
            "cache-latents and random-crop exclude each other: a cached crop is never drawn",
        ),
        (
            {"batch_size": 0, "keep": 0},
            "--batch-size must be at least 1, not 0; keep in --config must be at least 1, not 0",
        ),
        *(
            (
                {"timesteps": text},
                "--timesteps must be LO:HI with LO below HI, such as 0:250, not " + repr(text),
            )
            for text in ("", "5", "250:0", "3:3", "-1:5", "0:1.5", "0:", "\u0661:\u0662")
        ),
        ({"classes": ("a", "a")}, "classes in --config contains a name twice"),
    ],
)
def test_impossible_values_are_refused_at_once(values, message):
    with pytest.raises(UsageError) as refusal:
        Options(**values)

    assert message == refusal.value.message()


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_a_config_is_toml_with_the_options_names(tmp_path, mark):
    path = tmp_path / "run.toml"
    path.write_text(mark + 'lr = 1\nlr-schedule = "cosine"\nprompt = ["a", "b"]\nema = false\n')

    found = read_config(path, [Options])

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
        ("sample-step = 1", "'sample-step' is not an option; did you mean sample-steps?"),
        ("steps = 1.5", "steps = 1.5 is not a whole number"),
        ("steps = true", "steps = True is not a whole number"),
        ('lr = "fast"', "lr = 'fast' is not a number"),
        ("ema = 1", "ema = 1 is not true or false"),
        ("prompt = [1]", "prompt = [1] is not a list of strings"),
        ("precision = 'fp8'", "precision = 'fp8' is not one of no, bf16, fp16"),
    ],
)
def test_a_config_with_an_unknown_option_is_refused(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)

    with pytest.raises(UsageError) as refusal:
        read_config(path, [Options])

    assert f"{path}: {message}" == refusal.value.message()


def test_a_config_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("lr = ")

    with pytest.raises(InputError, match="is not valid TOML"):
        read_config(path, [Options])
