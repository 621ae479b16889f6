"""Training checkpoints: everything that resuming needs, as safetensors and JSON.

Rule 1: a checkpoint is published as a whole; its manifest, written last, lists its files.
Rule 2: the newest complete checkpoint is used; newer ones that are skipped are reported.
Rule 3: an old checkpoint is removed only when a newer one is on disk.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..checkpoints.run_folder import EMA, FOLDER, MANIFEST, MODEL, power_file
from ..errors import InputError, SoupError
from ..storage.atomic import publish_bytes, publish_folder
from ..storage.files import read_json, write_file
from ..storage.partial import Staging
from ..storage.renameat import random_name
from .deepspeed_engine import is_deepspeed, restore_deepspeed, save_deepspeed
from .distributed import gather_on_main, shard_like
from .loop import LoopState
from .tensors import write_tensors

LATEST = "latest"
OPTIMIZER = "optimizer.safetensors"
CHECKPOINT_FORMAT = 1
KINDS = {"step": int, "identity": dict, "optimizer": dict, "files": dict}
"""The required entries of a manifest, and their types."""


@dataclass(frozen=True, slots=True)
class TrainingCheckpoint:
    """A complete checkpoint on disk."""

    path: Path
    step: int
    identity: Mapping[str, str]
    """Identity of its run; see `PreparedRun.identity`."""
    manifest: Mapping[str, Any]


def save_checkpoint(out: Path, state: LoopState, identity: Mapping[str, str], keep: int) -> None:
    """Write a checkpoint to the run's folder `out`, and keep only the newest `keep` checkpoints.

    Every process must call it; the main one writes. Raises OutputError if it cannot be written, and
    then removes nothing.
    """
    accelerator = state.accelerator
    engine = state.model if is_deepspeed(accelerator) else None
    tensors_of, plain = ({}, {}) if engine else _tensors_and_rest(state)
    if state.ema is not None:
        tensors_of[EMA] = dict(zip(state.trained, state.ema.shadow_params, strict=True))
    for track in state.averages.tracks:
        tensors_of[power_file(track.width)] = dict(zip(state.trained, track.values, strict=True))
    if not accelerator.is_main_process:
        if engine:
            save_deepspeed(engine, accelerator, None)
        return
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{state.step:06}"
    with publish_folder(target, replace=True, may_replace=lambda path: True) as staging:
        for name, tensors in tensors_of.items():
            write_tensors(staging, name, tensors)
        files = {name: (staging.path / name).stat().st_size for name in tensors_of}
        if engine:
            files |= save_deepspeed(engine, accelerator, staging.path)
        _write_manifest(staging, state, identity, plain, files)
    publish_bytes(folder / LATEST, f"{target.name}\n".encode(), replace=True)
    for old in _folders(folder)[keep:]:
        remove_checkpoint(old)


def _tensors_and_rest(state: LoopState) -> tuple[dict[str, dict[str, torch.Tensor]], Any]:
    """The full tensors of a checkpoint by file, and the optimizer's state other than tensors."""
    moments, plain = flatten(state.optimizer.state_dict()["state"])
    return {
        MODEL: gather_on_main(state.trained, state.accelerator),
        OPTIMIZER: gather_on_main(moments, state.accelerator),
    }, plain


def _write_manifest(
    staging: Staging,
    state: LoopState,
    identity: Mapping[str, str],
    plain: Mapping[str, Any],
    files: Mapping[str, int],
) -> None:
    scaler = state.accelerator.scaler
    manifest = {
        "format": CHECKPOINT_FORMAT,
        "step": state.step,
        "identity": dict(identity),
        "optimizer": plain,
        "ema_steps": state.ema.optimization_step if state.ema is not None else None,
        "ema_tracks": {repr(each.width): each.updates for each in state.averages.tracks},
        "scaler": scaler.state_dict() if scaler is not None else None,
        "files": dict(files),
    }
    data = json.dumps(manifest, indent=2, sort_keys=True).encode()
    write_file(staging, MANIFEST, data)


def flatten(state: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, torch.Tensor], Any]:
    """The tensors of an optimizer's state by `number.name`, and its other values.

    Entries of a nested dictionary, as bitsandbytes has, are named `number.dictionary.name`.
    """
    found = dict(_leaves(state, ""))
    tensors = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
    return tensors, {key: value for key, value in found.items() if key not in tensors}


def _leaves(entries: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def unflatten(entries: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The state of an optimizer from what `flatten` returned."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in entries.items():
        number, *dictionaries, name = key.split(".")
        place = state.setdefault(int(number), {})
        for each in dictionaries:
            place = place.setdefault(each, {})
        place[name] = value
    return state


def restore_checkpoint(state: LoopState, checkpoint: TrainingCheckpoint) -> None:
    """Restore the state of training from a checkpoint; InputError if it does not fit."""
    try:
        _restore(state, checkpoint)
    except (
        *(OSError, LookupError, TypeError, ValueError, RuntimeError),
        safetensors.SafetensorError,
    ) as error:
        raise InputError(f"cannot be restored: {error}", path=checkpoint.path) from error


def _restore(state: LoopState, checkpoint: TrainingCheckpoint) -> None:
    path, manifest = checkpoint.path, checkpoint.manifest
    if state.ema is not None:
        shadows = dict(zip(state.trained, state.ema.shadow_params, strict=True))
        for name, value in _matching(path / EMA, shadows).items():
            shadows[name].copy_(value)
        state.ema.optimization_step = int(manifest["ema_steps"])
    for track in state.averages.tracks:
        values = dict(zip(state.trained, track.values, strict=True))
        for name, value in _matching(path / power_file(track.width), values).items():
            values[name].copy_(value)
        track.updates = int(manifest["ema_tracks"][repr(track.width)])
    if is_deepspeed(state.accelerator):
        restore_deepspeed(state.model, path)
    else:
        _restore_trained(state, path, manifest)
    if state.accelerator.scaler is not None:
        state.accelerator.scaler.load_state_dict(manifest["scaler"])
    state.step = checkpoint.step


def _restore_trained(state: LoopState, path: Path, manifest: Mapping[str, Any]) -> None:
    """Restore weights and optimizer; each process restores its part."""
    with torch.no_grad():
        for name, value in _matching(path / MODEL, state.trained).items():
            state.trained[name].copy_(shard_like(value, state.trained[name]))
    moments = safetensors.torch.load_file(path / OPTIMIZER)
    parameters = list(state.trained.values())
    for key, value in moments.items():
        parameter = parameters[int(key.partition(".")[0])]
        if value.shape == parameter.shape:
            moments[key] = shard_like(value, parameter)
    optimizer_state = state.optimizer.state_dict()
    optimizer_state["state"] = unflatten({**moments, **manifest["optimizer"]})
    state.optimizer.load_state_dict(optimizer_state)


def _matching(path: Path, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file; ValueError unless names and shapes are those of `wanted`."""
    found = safetensors.torch.load_file(path)
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in wanted.items()}:
        raise ValueError(f"the tensors in {path.name} are not those of this model")
    return found


def find_newest(out: Path) -> tuple[TrainingCheckpoint | None, list[str]]:
    """The newest complete checkpoint of a run, and the problems of newer ones."""
    problems: list[str] = []
    for path in _folders(out / FOLDER):
        try:
            return read_checkpoint(path), problems
        except SoupError as error:
            problems.append(error.message())
    return None, problems


def read_checkpoint(path: Path) -> TrainingCheckpoint:
    """The checkpoint in a folder; InputError if it is incomplete or malformed."""
    if not (path / MANIFEST).is_file():
        what = "is not a complete training checkpoint"
        raise InputError(what, path=path, advice="they are folders such as checkpoints/step-000500")
    manifest = read_json(path / MANIFEST, "manifest of a checkpoint")
    try:
        if manifest["format"] != CHECKPOINT_FORMAT:
            raise InputError("was made by another version of soupctl", path=path)
        wrong = [name for name, kind in KINDS.items() if type(manifest[name]) is not kind]
        if wrong or manifest["step"] < 0:
            what = f"is damaged: its manifest has no valid {(wrong or ['step'])[0]!r}"
            raise InputError(what, path=path)
        sizes = {name: (path / name).stat().st_size for name in manifest["files"]}
        if sizes != manifest["files"]:
            raise InputError("is damaged: its files are not those of its manifest", path=path)
        return TrainingCheckpoint(path, manifest["step"], manifest["identity"], manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"is damaged: {error}", path=path) from None


def _folders(folder: Path) -> list[Path]:
    """The folders of checkpoints, newest first."""
    found = [path for path in _entries(folder) if path.name.startswith("step-")]
    return sorted(found, key=lambda path: (len(path.name), path.name), reverse=True)


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; renamed first, so that a kill leaves nothing that looks like one."""
    renamed = path.with_name(random_name())
    path.rename(renamed)
    shutil.rmtree(renamed)


def remove_partial(out: Path) -> None:
    """Remove partial files and folders that a killed run left."""
    for folder in (out, out / FOLDER):
        for path in _entries(folder):
            if path.name.startswith(".") and path.name.endswith(".partial"):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
