"""The trained model as a folder that diffusers loads and soupctl averages.

Rule 1: the files of the base's other components are copied, not linked, so that the result does not
depend on the base's folder; only the scheduler's prediction type may change. Other files are not
copied.
Rule 2: a folder is published as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import torch

from ..checkpoints.preference import INDEX
from ..choices import Prediction
from ..diffusion.base import SCHEDULER, Base
from ..diffusion.component_classes import CONFIG, SCHEDULER_CONFIG
from ..format.strict_json import decode, parse_config
from ..storage.atomic import publish_folder
from ..storage.files import copy_file, write_file
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
        for name, content in base.files.contents.items():
            if prediction and name == base.files.inside(SCHEDULER, SCHEDULER_CONFIG):
                _write_scheduler(staging, name, base, prediction)
            elif name == _inside(base, CONFIG) or (prediction and not INDEX.search(name)):
                write_file(staging, name, content)
        for name, index in _other_indexes(base) if prediction else ():
            write_file(staging, name, index)
        for name, path in _other_weights(base) if prediction else ():
            copy_file(staging, name, path)
    return digest


def _inside(base: Base, name: str) -> str:
    return str(PurePosixPath(base.denoiser, name))


def _other_weights(base: Base) -> Iterator[tuple[str, Path]]:
    """The weights of a base except the denoiser's, with their plain names in its folder."""
    for name, component in base.files.weights.items():
        if name != base.denoiser:
            for path in component.files:
                yield _plain_name(base, name, path), path


def _other_indexes(base: Base) -> Iterator[tuple[str, bytes]]:
    """The indexes of these weights, with their plain names."""
    for name, component in base.files.weights.items():
        if name != base.denoiser and component.index_file is not None:
            path = component.index_file.path
            content = base.files.contents[path.relative_to(base.folder).as_posix()]
            yield _plain_name(base, name, path), content


def _plain_name(base: Base, component: str, path: Path) -> str:
    """The name of a weights file within the model: the name that its library looks for."""
    within = path.relative_to(base.folder).as_posix()
    return base.files.published_name(component, base.components[component].library, within)


def _write_scheduler(staging: Staging, name: str, base: Base, prediction: Prediction) -> None:
    """Write a scheduler's config, with another prediction type if training used another one."""
    config = parse_config(decode(base.files.contents[name]))
    # diffusers' default is epsilon
    if config.get("prediction_type", Prediction.EPSILON) == prediction:
        write_file(staging, name, base.files.contents[name])
        return
    data = (json.dumps({**config, "prediction_type": prediction}, indent=2) + "\n").encode()
    write_file(staging, name, data)


def copied_size(base: Base) -> int:
    """Bytes of the files that are copied from the base."""
    weights = sum(path.stat().st_size for _, path in _other_weights(base))
    return weights + sum(map(len, base.files.contents.values()))
