"""The noise that a model was trained with, from the config of any scheduler.

Rule 1: the class of a scheduler decides how to sample, which no weight depends on, so classes with
the same noise are equal. The prediction type, and the shift of flows, belong to the noise.
"""

from __future__ import annotations

from typing import Any

from .defaults import defaults_of
from .effective import Config, class_of
from .fields import SCHEDULE

FLOW = "flow_prediction"
FLOW_FIELDS = ("shift", "use_dynamic_shifting", "base_shift", "max_shift", "shift_terminal")
DYNAMIC = ("base_image_seq_len", "max_image_seq_len", "time_shift_type")
EDM_FIELDS = ("sigma_min", "sigma_max", "sigma_data", "sigma_schedule")
NOISE_FIELDS = (
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "snr_shift_scale",
    "timestep_type",
)
NEUTRAL = {"snr_shift_scale": 1, "timestep_type": "discrete"}
"""Values that mean the same as no such field, which most samplers do not have."""


def noise_schedule(config: Config, known: str | None = None) -> dict[str, Any]:
    """The fields of the noise schedule, with the defaults of the scheduler's class."""
    name = class_of(config, known) or ""
    defaults = defaults_of(name).values
    said = {key: value for key, value in config.items() if value is not None}
    every = {**defaults, **said}
    if name.startswith("FlowMatch") or every.get("use_flow_sigmas"):
        return _flow(every)
    if name.startswith("EDM"):
        return {"kind": "EDM", **_kept(every, ("prediction_type", *EDM_FIELDS))}
    if not name or "beta_schedule" in defaults or "beta_start" in every:
        fields = ("num_train_timesteps", "prediction_type", *NOISE_FIELDS)
        trained = "trained_betas" in every and bool(every["trained_betas"])
        usual = {"num_train_timesteps": 1000, "prediction_type": "epsilon"}
        kept = _kept({**usual, **every}, fields)
        kept = {key: value for key, value in kept.items() if NEUTRAL.get(key) != value}
        return {key: value for key, value in kept.items() if not (trained and key[:5] == "beta_")}
    return {"kind": name, **_kept(every, SCHEDULE)}


def _flow(config: Config) -> dict[str, Any]:
    shift = config.get("flow_shift", config.get("shift", 1.0))
    found = {
        "kind": "flow",
        "num_train_timesteps": config.get("num_train_timesteps", 1000),
        **_kept(config, FLOW_FIELDS[1:]),
    }
    if config.get("use_dynamic_shifting"):
        # the shift follows from the size of the image
        return found | _kept(config, DYNAMIC)
    return {
        **{key: found[key] for key in found if key not in ("base_shift", "max_shift")},
        "shift": shift,
    }


def _kept(config: Config, fields: tuple[str, ...]) -> dict[str, Any]:
    return {key: config[key] for key in fields if config.get(key) not in (None, False, [])}
