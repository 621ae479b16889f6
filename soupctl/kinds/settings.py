"""Settings: metadata keys that the meaning of the weights depends on.

Rule 1: a key that only says who made a model, when and how, is not a setting; it is left out if
the values differ.
"""

from __future__ import annotations

MEANINGS = {
    "modelspec.prediction_type": "Stability AI ModelSpec 1.0",
    "modelspec.architecture": "Stability AI ModelSpec 1.0",
    "prediction_type": "several trainers",
    "ss_v2": "kohya sd-scripts",
    "ss_zero_terminal_snr": "kohya sd-scripts",
    "ss_base_model_version": "kohya sd-scripts",
    "ss_network_module": "kohya sd-scripts",
    "model_type": "several trainers",
}
"""Keys that change the meaning of the weights, and the source of each."""

CONFIGS = {
    "config": "LTX-Video, ltx_video/models; compared field by field, as a config.json is",
    "model_config": "several trainers",
}
"""Keys that hold a config as JSON."""

SAID = ("modelspec.", "ss_", "config", "model_config", "prediction_type", "model_type")
"""Prefixes of keys whose loss is reported to the user."""
