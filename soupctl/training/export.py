"""The trained model as a folder that diffusers loads and soupctl averages.

Rule 1: the files of the base's other components are copied, not linked, so that the result does not
depend on the base's folder; only the scheduler's prediction type may change, and the list of
components if one is left out. Other files are not copied.
Rule 2: a folder is published as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

import torch

from ..checkpoints.listing import PIPELINE
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
WEIGHTS, TEXT_WEIGHTS = "diffusion_pytorch_model.safetensors", "model.safetensors"
Parts = Mapping[str, Mapping[str, torch.Tensor]]
"""The trained tensors of each trained component, by its folder."""


def publish_model(
    target: Path,
    base: Base,
    parts: Parts,
    make_metadata: Callable[[str], MakeMetadata],
    cast: torch.dtype | None,
    *,
    prediction: Prediction | None,
    check: Callable[[], None],
) -> dict[str, str]:
    """Publish trained tensors and their configs as the folder `target`; returns their digests.

    `make_metadata` is called with the folder of each component. With `prediction`, the rest of the
    base's pipeline is copied, and that is its scheduler's prediction type. `check` is called before
    the folder gets its name. Raises OutputError.
    """
    configs = {base.files.inside(component, CONFIG) for component in parts}
    with publish_folder(
        target, replace=True, may_replace=lambda path: True, check=check
    ) as staging:
        digests = {
            name: write_tensors(
                staging, _weights_name(base, name), tensors, make_metadata(name), cast=cast
            )
            for name, tensors in parts.items()
        }
        for name, content in base.files.contents.items():
            if prediction and name == PIPELINE:
                _write_listing(staging, base)
            elif prediction and name == base.files.inside(SCHEDULER, SCHEDULER_CONFIG):
                _write_scheduler(staging, name, base, prediction)
            elif name in configs or (prediction and not INDEX.search(name)):
                write_file(staging, name, content)
        for name, index in _other_indexes(base, parts) if prediction else ():
            write_file(staging, name, index)
        for name, path in _other_weights(base, parts) if prediction else ():
            copy_file(staging, name, path)
    return digests


def _weights_name(base: Base, component: str) -> str:
    """The name of a component's weights within a model."""
    own = WEIGHTS if component == base.denoiser else TEXT_WEIGHTS
    return str(PurePosixPath(component, own))


def _other_weights(base: Base, trained: Collection[str]) -> Iterator[tuple[str, Path]]:
    """The weights of a base except the trained ones, with their plain names in its folder."""
    for name, component in base.files.weights.items():
        if name not in trained:
            for path in component.files:
                yield _plain_name(base, name, path), path


def _other_indexes(base: Base, trained: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The indexes of these weights, with their plain names."""
    for name, component in base.files.weights.items():
        if name not in trained and component.index_file is not None:
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
    own = config.get("prediction_type", Prediction.EPSILON)
    if prediction in (own, Prediction.FLOW):
        write_file(staging, name, base.files.contents[name])
        return
    data = (json.dumps({**config, "prediction_type": prediction}, indent=2) + "\n").encode()
    write_file(staging, name, data)


def _write_listing(staging: Staging, base: Base) -> None:
    """Write the pipeline's list of components, without copies that the model does not have."""
    content = base.files.contents[PIPELINE]
    listing = parse_config(decode(content))
    if base.left_out and not listing.keys().isdisjoint(base.left_out):
        kept = {name: value for name, value in listing.items() if name not in base.left_out}
        content = (json.dumps(kept, indent=2) + "\n").encode()
    write_file(staging, PIPELINE, content)


def copied_size(base: Base) -> int:
    """Bytes of the files that are copied from the base."""
    weights = sum(path.stat().st_size for _, path in _other_weights(base, {base.denoiser}))
    return weights + sum(map(len, base.files.contents.values()))
