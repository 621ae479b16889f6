"""Single files: as a base, converted to a pipeline once in the user's cache, and as a result.

Rule 1: the pipeline is what `convert --layout diffusers` makes of the file, so that its tensors
have the same digests, and soups of what is trained on either are of one base.
Rule 2: the name of the pipeline's folder covers the identity of each file that it was made of, so
that a file that changed is converted anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.digest import PREFIX, text_digest
from ..checkpoints.layout import SUFFIXES
from ..checkpoints.safetensors import read_header
from ..choices import Layout
from ..errors import LimitError, MismatchError
from ..format.strict_json import decode, parse_config
from ..ledger.sealed import canonical
from ..storage import cache
from ..storage.atomic import publish_bytes
from ..storage.cached_folder import cached_folder
from ..storage.files import read_file
from ..storage.place import refusing
from ..storage.reader import FileIdentity
from .base import SCHEDULER, Base
from .component_classes import FLOW_SCHEDULERS, SCHEDULER_CONFIG

if TYPE_CHECKING:
    from ..convert.request import ConvertRequest

SINGLE_FILE = "single-file"
"""The folder in a run's folder for the single file that it makes."""
FORM = 2
"""Raised when the same file is converted to another pipeline than before."""
MOST_BASES = 4
"""Pipelines that are kept, those used last; one that is in use is always kept."""
LEFT_OUT = ("model_ema.*", "lora_*", "*.position_ids", "embedding_manager.*", "*_model.loss.*")
"""Tensors that no model of a pipeline needs: averages, adapters, and numbers of positions."""
V_PREDICTION: Mapping[str, object] = {"prediction_type": "v_prediction"}
ZERO_SNR: Mapping[str, object] = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
MARKS = {"v_pred": V_PREDICTION, "ztsnr": ZERO_SNR}
"""Tensors that say how a model was trained, as ComfyUI reads them, and the scheduler's fields."""
OTHER_NOISE = ("edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")
"""Tensors of models that were trained with the noise of EDM."""
STATEMENTS = ("modelspec.prediction_type", "prediction_type")
"""Metadata that says what a model predicts."""
ZERO_SNR_STATEMENT = "ss_zero_terminal_snr"
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}
CONFIGS = frozenset((".json", ".txt", ".model"))
"""Endings of the files that are taken from another pipeline, or tokenizer."""


def is_single_file(path: Path) -> bool:
    """Whether a path is a file that may hold all models of a pipeline."""
    return path.is_file() and path.suffix in SUFFIXES


def pipeline_of(file: Path, config_from: str | Path | None) -> Path:
    """The folder of the pipeline that a single file in the layout of LDM is converted to.

    Configs and tokenizers are those of the folder `config_from`, or if it has tokenizers alone,
    these with built-in configs. Raises MismatchError for a file of other models or without
    tokenizers, and the errors of a conversion.
    """
    from ..convert.layouts.families import family_of_file

    header = read_header(file)
    names = [tensor.name for tensor in header.tensors]
    if family_of_file(names) is None:
        what = "is not a pipeline of SD 1.x, SD 2.x, SDXL or Flux in the layout of LDM"
        raise MismatchError(what, path=file, advice="use a diffusers folder")
    if config_from is None:
        what = "is a single file, which has no tokenizer"
        advice = "--config-from DIR takes those of a pipeline, or of a folder of tokenizers"
        raise MismatchError(what, path=file, advice=advice)
    if other := [name for name in OTHER_NOISE if name in names]:
        what = "says that the model was trained with the noise of EDM, which is not supported"
        raise MismatchError(what, path=file, tensor=other[0])
    folder = _place(file, Path(config_from))
    # other processes of the same training wait, and find it there
    return cached_folder(
        folder,
        f"pipeline/{file.stem}",
        lambda place: _convert(file, place, config_from, names, header.metadata),
        MOST_BASES,
    )


def require_single_file(pipeline: Path, variant: str | None) -> None:
    """Raise the errors of `make_single_file`, which the headers of a pipeline show."""
    from ..convert.conversion import open_conversion

    with open_conversion(_request_of(pipeline, pipeline / "model.safetensors", variant)):
        pass


def make_single_file(pipeline: Path, file: Path) -> None:
    """Write all models of a pipeline to one file in the layout of LDM, replacing an earlier one.

    Raises MismatchError for a pipeline of another family, OutputError for a failing disk.
    """
    from ..convert.write import convert

    with refusing(file):
        file.parent.mkdir(exist_ok=True)
    convert(_request_of(pipeline, file, None, _statements(pipeline)), force=True)


def assumes_v_prediction(base: Base) -> bool:
    """Whether a base is a single file of SD 2.x that says nothing of what the model predicts.

    Then the built-in config of its scheduler applies, which says v.
    """
    from ..convert.configs.pipeline import SCHEDULERS

    if not is_single_file(base.given):
        return False
    content = base.files.contents.get(f"{SCHEDULER}/{SCHEDULER_CONFIG}", b"{}")
    header = read_header(base.given)
    said = _said_of_noise([tensor.name for tensor in header.tensors], header.metadata)
    is_built_in = parse_config(decode(content)) == SCHEDULERS["Stable Diffusion 2"]
    return is_built_in and "prediction_type" not in said


def _statements(pipeline: Path) -> tuple[tuple[str, str], ...]:
    """Metadata that says what the model of a pipeline predicts; none for flow matching."""
    scheduler = parse_config(decode(read_file(pipeline / SCHEDULER / SCHEDULER_CONFIG)))
    # also that it is the noise: without a word, a file of SD 2.x is taken to predict v
    own = scheduler.get("prediction_type", "epsilon")
    is_flow = scheduler.get("_class_name") in FLOW_SCHEDULERS
    said = () if is_flow else ("epsilon", "v")
    found = [(STATEMENTS[0], each) for each in said if PREDICTIONS[each] == own]
    if scheduler.get("rescale_betas_zero_snr"):
        found.append((ZERO_SNR_STATEMENT, "True"))
    return tuple(found)


def _request_of(
    pipeline: Path,
    file: Path,
    variant: str | None,
    metadata: tuple[tuple[str, str], ...] = (),
) -> ConvertRequest:
    from ..convert.request import ConvertRequest

    return ConvertRequest(pipeline, file, layout=Layout.LDM, variant=variant, metadata=metadata)


def _place(file: Path, config_from: Path) -> Path:
    """The folder in the cache for the pipeline of a file."""
    root = cache.user_cache()
    if root is None:
        what = "a single file is converted in the cache folder of the user, who has none"
        raise LimitError(what, advice="set XDG_CACHE_HOME, or use a diffusers folder")
    inputs = [file, *_configs(config_from)]
    identities = [[str(path.resolve()), *FileIdentity.of(path.stat())] for path in inputs]
    key = text_digest(canonical([FORM, identities])).removeprefix(PREFIX)
    return root / "bases" / key[:32]


def _configs(folder: Path) -> Iterator[Path]:
    """The configs and vocabularies of a folder and its subfolders."""
    found = sorted(path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.is_file())
    return (path for path in found if path.suffix in CONFIGS)


def _said_of_noise(names: Collection[str], metadata: Mapping[str, str]) -> dict[str, object]:
    """The fields of the scheduler that a single file says itself, in its tensors or metadata."""
    said = [PREDICTIONS[metadata[key]] for key in STATEMENTS if metadata.get(key) in PREDICTIONS]
    found: dict[str, object] = {"prediction_type": said[0]} if said else {}
    if metadata.get(ZERO_SNR_STATEMENT) == "True":
        found |= ZERO_SNR
    for name, fields in MARKS.items():
        if name in names:
            found |= fields
    return found


def _convert(
    file: Path,
    place: Path,
    config_from: str | Path,
    names: list[str],
    metadata: Mapping[str, str],
) -> None:
    from ..convert.request import ConvertRequest
    from ..convert.write import convert

    unused = [
        glob for glob in (*LEFT_OUT, *MARKS) if any(fnmatchcase(name, glob) for name in names)
    ]
    convert(
        ConvertRequest(
            file,
            place,
            layout=Layout.DIFFUSERS,
            excludes=tuple(unused),
            config_from=config_from,
            ignore_ledger=True,
        )
    )
    if said := _said_of_noise(names, metadata):
        config = place / SCHEDULER / SCHEDULER_CONFIG
        own = parse_config(decode(read_file(config)))
        publish_bytes(config, json.dumps(own | said, indent=2).encode(), replace=True)
