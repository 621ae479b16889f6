"""What a run ends with: a folder that diffusers loads and soupctl averages.

Rule 1: everything but the denoiser's weights is copied from the base, save that the scheduler says
what was learned to be predicted; links would tie the output to a folder that somebody may edit.
Rule 2: each folder appears whole, the raw weights before those that are to be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import torch

from ..checkpoints.layout import PICKLES, PIPELINE, find_model
from ..choices import Prediction
from ..diffusion.base import SCHEDULER, SCHEDULER_CONFIG, Base
from ..storage.atomic import publish_folder
from ..storage.files import copy_file, read_json, write_file
from ..storage.folder import files_in, other_files
from ..storage.partial import Staging
from .tensors import Describe, write_tensors

RAW, LATENTS = "raw", "latents"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def publish_model(
    target: Path,
    base: Base,
    tensors: Mapping[str, torch.Tensor],
    describe: Describe,
    cast: torch.dtype | None,
    *,
    whole: Prediction | None,
    check: Callable[[], None],
) -> str:
    """The content digest of the denoiser's tensors, which are written with their config.

    With `whole`, the rest of the base's pipeline goes along, and its scheduler says that this is
    what the denoiser predicts. `check` is called before the folder gets its
    name. Raises OutputError.
    """
    with publish_folder(
        target, replace=True, may_replace=lambda path: True, check=check
    ) as staging:
        digest = write_tensors(staging, _inside(base, WEIGHTS), tensors, describe, cast=cast)
        for name, path in files_in(base.denoiser_folder, _is_config).items():
            copy_file(staging, _inside(base, name), path)
        for name, path in _rest(base) if whole else ():
            if whole and name == f"{SCHEDULER}/{SCHEDULER_CONFIG}":
                _copy_scheduler(staging, name, path, whole)
            else:
                copy_file(staging, name, path)
    return digest


def _inside(base: Base, name: str) -> str:
    return str(PurePosixPath(base.denoiser, name))


def _is_config(name: str) -> bool:
    return name.endswith(".json") and ".index." not in name and name != PIPELINE


def _rest(base: Base) -> Iterator[tuple[str, Path]]:
    """The files of a base but for its denoiser, by their names within it."""
    if base.denoiser:
        yield PIPELINE, base.folder / PIPELINE
    folders = [name for name in base.components if name != base.denoiser]
    if not base.denoiser and (base.folder / SCHEDULER).is_dir():
        folders.append(SCHEDULER)
    for folder in folders:
        files = other_files(base.folder / folder, lambda name: Path(name).suffix not in PICKLES)
        yield from ((f"{folder}/{name}", path) for name, path in files.items())


def _copy_scheduler(staging: Staging, name: str, path: Path, prediction: Prediction) -> None:
    """Copy a scheduler's config, changed only if the base was taught to predict something else."""
    config = read_json(path, "scheduler config")
    # what diffusers takes a config for that does not say
    if config.get("prediction_type", Prediction.EPSILON) == prediction:
        copy_file(staging, name, path)
        return
    data = (json.dumps({**config, "prediction_type": prediction}, indent=2) + "\n").encode()
    write_file(staging, name, data)


def base_files(base: Base) -> Iterator[Path]:
    """The files of a base that a run reads or copies: weights, their indexes, and configs."""
    (component,) = find_model(base.denoiser_folder).components
    yield from component.files
    yield from files_in(base.denoiser_folder, lambda name: name.endswith(".json")).values()
    yield from (path for _, path in _rest(base))


def copied_size(base: Base) -> int:
    """Bytes that are copied from the base."""
    return sum(path.stat().st_size for _, path in _rest(base))
