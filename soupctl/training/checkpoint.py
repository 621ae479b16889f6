"""Checkpoints of a run: all that going on needs, as safetensors and JSON.

Rule 1: a checkpoint appears whole or not at all; its manifest, written last, lists its files.
Rule 2: the newest whole checkpoint is used, and those that are passed over are told of.
Rule 3: an old checkpoint goes only when a newer one is on disk.
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

from ..errors import InputError, SoupError
from ..storage.atomic import publish_bytes, publish_folder
from ..storage.files import read_json, write_file
from ..storage.partial import Staging
from ..storage.renameat import random_name
from .distributed import gathered, is_deepspeed, restore_engine, save_engine, shared_out
from .loop import LoopState
from .tensors import write_tensors

FOLDER = "checkpoints"
LATEST = "latest"
MANIFEST = "soupctl_state.json"
MODEL, OPTIMIZER, EMA = "model.safetensors", "optimizer.safetensors", "ema.safetensors"
CHECKPOINT_FORMAT = 1
KINDS = {"step": int, "identity": dict, "optimizer": dict, "files": dict}
"""What a manifest holds by name, and its kind."""


@dataclass(frozen=True, slots=True)
class TrainingCheckpoint:
    """A checkpoint on disk, found whole."""

    path: Path
    step: int
    identity: Mapping[str, str]
    """What tells its run from another."""
    manifest: Mapping[str, Any]


def save(out: Path, training: LoopState, identity: Mapping[str, str], keep: int) -> None:
    """Write a checkpoint of a run in the folder `out`, of which the newest `keep` remain.

    Every process calls, and the main one writes. Raises OutputError if it cannot be written; what
    was there before stays then.
    """
    accelerator = training.accelerator
    engine = training.model if is_deepspeed(accelerator) else None
    held, plain = ({}, {}) if engine else _held(training)
    if training.ema is not None:
        held[EMA] = dict(zip(training.trained, training.ema.shadow_params, strict=True))
    if not accelerator.is_main_process:
        if engine:
            save_engine(engine, accelerator, None)
        return
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{training.step:06}"
    with publish_folder(target, replace=True, may_replace=lambda path: True) as staging:
        for name, tensors in held.items():
            write_tensors(staging, name, tensors)
        files = {name: (staging.path / name).stat().st_size for name in held}
        if engine:
            files |= save_engine(engine, accelerator, staging.path)
        _write_manifest(staging, training, identity, plain, files)
    publish_bytes(folder / LATEST, f"{target.name}\n".encode(), replace=True)
    for old in _folders(folder)[keep:]:
        discard(old)


def _held(training: LoopState) -> tuple[dict[str, dict[str, torch.Tensor]], Any]:
    """What a checkpoint holds by file, whole, and what else there is of the optimizer's state."""
    moments, plain = flattened(training.optimizer.state_dict()["state"])
    return {
        MODEL: gathered(training.trained, training.accelerator),
        OPTIMIZER: gathered(moments, training.accelerator),
    }, plain


def _write_manifest(
    staging: Staging,
    training: LoopState,
    identity: Mapping[str, str],
    plain: Mapping[str, Any],
    files: Mapping[str, int],
) -> None:
    scaler = training.accelerator.scaler
    manifest = {
        "format": CHECKPOINT_FORMAT,
        "step": training.step,
        "identity": dict(identity),
        "optimizer": plain,
        "ema_steps": training.ema.optimization_step if training.ema is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "files": dict(files),
    }
    data = json.dumps(manifest, indent=2, sort_keys=True).encode()
    write_file(staging, MANIFEST, data)


def flattened(state: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, torch.Tensor], Any]:
    """The state of an optimizer as tensors by `number.name`, and what else there is of it.

    What has a dictionary of its own there, as in bitsandbytes, is `number.dictionary.name`.
    """
    found = dict(_leaves(state, ""))
    tensors = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
    return tensors, {key: value for key, value in found.items() if key not in tensors}


def _leaves(entries: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def unflattened(entries: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The state of an optimizer from its tensors and the rest."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in entries.items():
        number, *dictionaries, name = key.split(".")
        place = state.setdefault(int(number), {})
        for each in dictionaries:
            place = place.setdefault(each, {})
        place[name] = value
    return state


def restore(training: LoopState, checkpoint: TrainingCheckpoint) -> None:
    """Put training back to where a checkpoint was made; InputError if it does not fit."""
    try:
        _restore(training, checkpoint)
    except (
        *(OSError, LookupError, TypeError, ValueError, RuntimeError),
        safetensors.SafetensorError,
    ) as error:
        raise InputError(f"cannot be resumed from: {error}", path=checkpoint.path) from error


def _restore(training: LoopState, checkpoint: TrainingCheckpoint) -> None:
    path, manifest = checkpoint.path, checkpoint.manifest
    if training.ema is not None:
        shadows = dict(zip(training.trained, training.ema.shadow_params, strict=True))
        for name, value in _matching(path / EMA, shadows).items():
            shadows[name].copy_(value)
        training.ema.optimization_step = int(manifest["ema_steps"])
    if is_deepspeed(training.accelerator):
        restore_engine(training.model, path)
    else:
        _restore_trained(training, path, manifest)
    if training.accelerator.scaler is not None:
        training.accelerator.scaler.load_state_dict(manifest["scaler"])
    training.step = checkpoint.step


def _restore_trained(training: LoopState, path: Path, manifest: Mapping[str, Any]) -> None:
    """Put weights and optimizer back, each process its part."""
    with torch.no_grad():
        for name, value in _matching(path / MODEL, training.trained).items():
            training.trained[name].copy_(shared_out(value, training.trained[name]))
    moments = safetensors.torch.load_file(path / OPTIMIZER)
    parameters = list(training.trained.values())
    for key, value in moments.items():
        parameter = parameters[int(key.partition(".")[0])]
        if value.shape == parameter.shape:
            moments[key] = shared_out(value, parameter)
    state = training.optimizer.state_dict()
    state["state"] = unflattened({**moments, **manifest["optimizer"]})
    training.optimizer.load_state_dict(state)


def _matching(path: Path, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file, which are those that are wanted; ValueError if not."""
    found = safetensors.torch.load_file(path)
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in wanted.items()}:
        raise ValueError(f"{path.name} holds other tensors than are trained")
    return found


def newest(out: Path) -> tuple[TrainingCheckpoint | None, list[str]]:
    """The newest whole checkpoint of a run, and why newer ones are passed over."""
    passed: list[str] = []
    for path in _folders(out / FOLDER):
        try:
            return read(path), passed
        except SoupError as error:
            passed.append(error.message())
    return None, passed


def read(path: Path) -> TrainingCheckpoint:
    """The checkpoint in a folder; InputError if it is not whole."""
    manifest = read_json(path / MANIFEST, "manifest of a checkpoint")
    try:
        if manifest["format"] != CHECKPOINT_FORMAT:
            raise InputError("was made by another version of soupctl", path=path)
        wrong = [name for name, kind in KINDS.items() if type(manifest[name]) is not kind]
        if wrong or manifest["step"] < 0:
            what = f"is not whole: its manifest has no {(wrong or ['step'])[0]} that could be meant"
            raise InputError(what, path=path)
        sizes = {name: (path / name).stat().st_size for name in manifest["files"]}
        if sizes != manifest["files"]:
            raise InputError("is not whole: its files are not those of its manifest", path=path)
        return TrainingCheckpoint(path, manifest["step"], manifest["identity"], manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not whole: {error}", path=path) from None


def _folders(folder: Path) -> list[Path]:
    """The checkpoints in a folder by their names, newest first."""
    found = [path for path in _entries(folder) if path.name.startswith("step-")]
    return sorted(found, key=lambda path: (len(path.name), path.name), reverse=True)


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def discard(path: Path) -> None:
    """Remove a checkpoint so that what a kill leaves of it is not taken for one."""
    doomed = path.with_name(random_name())
    path.rename(doomed)
    shutil.rmtree(doomed)


def sweep(out: Path) -> None:
    """Remove what a killed run left half-written in its own folders."""
    for folder in (out, out / FOLDER):
        for path in _entries(folder):
            if path.name.startswith(".") and path.name.endswith(".partial"):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
