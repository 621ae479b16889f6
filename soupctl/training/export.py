"""The trained model as a folder that diffusers loads and soupctl averages.

Rule 1: everything but the denoiser's weights is copied from the base, not linked, so that the
result does not depend on the base's folder; only the scheduler's prediction type may change.
Rule 2: a folder is published as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import torch

from ..checkpoints.layout import PICKLES, find_model
from ..checkpoints.listing import PIPELINE
from ..choices import Prediction
from ..diffusion.base import SCHEDULER, SCHEDULER_CONFIG, Base
from ..storage.atomic import publish_folder
from ..storage.files import copy_file, read_json, write_file
from ..storage.folder import files_in, other_files
from ..storage.partial import Staging
from .tensors import MakeMetadata, write_tensors

RAW, LATENTS = "raw", "latents"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def publish_model(
    target: Path,
    base: Base,
    tensors: Mapping[str, torch.Tensor],
    make_metadata: MakeMetadata,
    cast: torch.dtype | None,
    *,
    prediction: Prediction | None,
    check: Callable[[], None],
) -> str:
    """Publish the denoiser's tensors and config as the folder `target`; returns their digest.

    With `prediction`, the rest of the base's pipeline is copied, and that is its scheduler's
    prediction type. `check` is called before the folder gets its name. Raises OutputError.
    """
    with publish_folder(
        target, replace=True, may_replace=lambda path: True, check=check
    ) as staging:
        digest = write_tensors(staging, _inside(base, WEIGHTS), tensors, make_metadata, cast=cast)
        for name, path in files_in(base.denoiser_folder, _is_config).items():
            copy_file(staging, _inside(base, name), path)
        for name, path in _other_files(base) if prediction else ():
            if prediction and name == f"{SCHEDULER}/{SCHEDULER_CONFIG}":
                _copy_scheduler(staging, name, path, prediction)
            else:
                copy_file(staging, name, path)
    return digest


def _inside(base: Base, name: str) -> str:
    return str(PurePosixPath(base.denoiser, name))


def _is_config(name: str) -> bool:
    return name.endswith(".json") and ".index." not in name and name != PIPELINE


def _other_files(base: Base) -> Iterator[tuple[str, Path]]:
    """The files of a base except the denoiser's, with their names relative to its folder."""
    if base.denoiser:
        yield PIPELINE, base.folder / PIPELINE
    folders = [name for name in base.components if name != base.denoiser]
    if not base.denoiser and (base.folder / SCHEDULER).is_dir():
        folders.append(SCHEDULER)
    for folder in folders:
        files = other_files(base.folder / folder, lambda name: Path(name).suffix not in PICKLES)
        yield from ((f"{folder}/{name}", path) for name, path in files.items())


def _copy_scheduler(staging: Staging, name: str, path: Path, prediction: Prediction) -> None:
    """Copy a scheduler's config, with another prediction type if training used another one."""
    config = read_json(path, "scheduler config")
    # diffusers' default is epsilon
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
    yield from (path for _, path in _other_files(base))


def copied_size(base: Base) -> int:
    """Bytes of the files that are copied from the base."""
    return sum(path.stat().st_size for _, path in _other_files(base))
