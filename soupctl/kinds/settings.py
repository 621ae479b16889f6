"""Keys of a file's metadata that say what its weights mean.

Rule 1: what only says who made a model, when and how, is no setting, and is left out where
it differs.
"""

from __future__ import annotations

MEANINGS = {
    "modelspec.prediction_type": "Stability AI ModelSpec 1.0",
    "modelspec.architecture": "Stability AI ModelSpec 1.0",
    "modelspec.encoder_layer": "kohya sd-scripts, library/sai_model_spec.py",
    "prediction_type": "several trainers",
    "ss_v2": "kohya sd-scripts",
    "ss_zero_terminal_snr": "kohya sd-scripts",
    "ss_base_model_version": "kohya sd-scripts",
    "ss_network_module": "kohya sd-scripts",
    "model_type": "several trainers",
}
"""Keys whose values change what the weights mean, and where each is described."""

CONFIGS = {
    "config": "LTX-Video, ltx_video/models; compared field by field, as a config.json is",
    "model_config": "several trainers",
}
"""Keys that hold a config as JSON."""

SAID = ("modelspec.", "ss_", "config", "model_config", "prediction_type", "model_type")
"""What the keys begin with of which users want to know that they are gone."""
