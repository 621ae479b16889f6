"""The training checkpoints in a run's folder, by the names of their files.

Rule 1: only manifests are read here; the caller opens a checkpoint's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..frozen import frozen
from ..storage.files import read_json

FOLDER = "checkpoints"
MANIFEST = "soupctl_state.json"
MODEL, EMA = "model.safetensors", "ema.safetensors"
OF_BANKS = "gate_input"
"""An option that only the identities of prompt banks have."""
WITH_TEXTS = "train_text_encoder"
"""An option that only the identities of runs have that train text encoders, too."""


@frozen
class RunSnapshot:
    """The weights in one training checkpoint of a run."""

    step: int
    weights: Path
    track: EmaTrack | None
    """The moving average that was stored with them."""
    powers: tuple[PowerAverage, ...] = ()
    """The power-function averages that were stored with them, by width."""


@frozen
class EmaTrack:
    """A stored moving average, as diffusers' `EMAModel` makes it."""

    weights: Path
    updates: int
    decay: float


@frozen
class PowerAverage:
    """A stored average with a power function as its profile."""

    weights: Path
    updates: int
    sigma_rel: float


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run: it has training checkpoints."""
    return (folder / FOLDER).is_dir() and any((folder / FOLDER).glob(f"step-*/{MANIFEST}"))


def run_snapshots(run: Path) -> tuple[RunSnapshot, ...]:
    """The snapshots of a run, by step.

    Raises InputError for a damaged manifest, a run of a prompt bank, and weights that are not kept
    as one file, as those of DeepSpeed.
    """
    found = (_snapshot(path) for path in (run / FOLDER).glob("step-*") if path.is_dir())
    return tuple(sorted(found, key=lambda each: each.step))


def _snapshot(path: Path) -> RunSnapshot:
    manifest = read_json(path / MANIFEST, "manifest of a checkpoint")
    step, identity, updates = (manifest.get(key) for key in ("step", "identity", "ema_steps"))
    if type(step) is not int or step < 1 or not isinstance(identity, dict):
        raise InputError("is damaged: its manifest has no valid step and identity", path=path)
    if OF_BANKS in identity:
        what = "belongs to a run that trains a prompt bank, whose snapshots are not models"
        raise InputError(what, path=path)
    if WITH_TEXTS in identity:
        what = "belongs to a run that trains text encoders, too, whose snapshots are no models"
        raise InputError(what, path=path)
    if not (path / MODEL).is_file():
        what = f"has no {MODEL}"
        raise InputError(what, path=path, advice="runs with DeepSpeed do not store one")
    track = None
    if isinstance(updates, int) and updates > 0 and (path / EMA).is_file():
        track = EmaTrack(path / EMA, updates, _decay(identity, path))
    return RunSnapshot(step, path / MODEL, track, _powers(manifest.get("ema_tracks"), path))


def power_file(width: float) -> str:
    """The name of the file of the power-function average of that width."""
    return f"ema-{width!r}.safetensors"


def _powers(listed: object, path: Path) -> tuple[PowerAverage, ...]:
    """The power-function averages that a manifest lists, as updates by width."""
    found = []
    for text, updates in (listed if isinstance(listed, dict) else {}).items():
        try:
            width = float(text)
        except ValueError:
            width = -1.0
        file = path / power_file(width)
        if not 0 < width < 1 or type(updates) is not int or updates < 1 or not file.is_file():
            raise InputError(f"is damaged: it has no valid average {text!r}", path=path)
        found.append(PowerAverage(file, updates, width))
    return tuple(sorted(found, key=lambda each: each.sigma_rel))


def _decay(identity: dict[str, Any], path: Path) -> float:
    """The decay of the run's moving average; InputError if the manifest has no valid one."""
    try:
        decay = float(identity["ema_decay"])
    except (KeyError, TypeError, ValueError):
        decay = -1.0
    if not 0 <= decay <= 1:
        raise InputError("is damaged: its manifest has no valid ema_decay", path=path)
    return decay
