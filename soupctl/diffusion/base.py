"""A base: a local diffusers folder, described without loading a model.

Rule 1: all that can be refused from configs and headers is refused here, before data is read.
Rule 2: only the denoiser is trained; all other components of a pipeline stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..checkpoints.digest import text_digest
from ..checkpoints.layout import find_model
from ..checkpoints.listing import PIPELINE
from ..checkpoints.safetensors import read_header
from ..errors import InputError, MismatchError
from ..format.dtypes import DType
from ..ledger.ledger_json import canonical
from ..storage.files import read_json

CONFIG = "config.json"
MODEL = "model"
"""The folder of a training run that holds the trained model."""
SCHEDULER_CONFIG = "scheduler_config.json"
ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors")
REMOTE = re.compile(r"[\w.-]+/[\w.-]+")
"""The form of a model's name on the hub."""
DENOISERS = ("UNet2DConditionModel", "UNet2DModel", "DiTTransformer2DModel")
VAE, TEXT_ENCODER, TOKENIZER, SCHEDULER = "vae", "text_encoder", "tokenizer", "scheduler"


class Conditioning(Enum):
    """The condition that a denoiser takes besides the noisy image and its timestep."""

    NONE = "nothing"
    LABEL = "classes"
    TEXT = "captions"


@dataclass(frozen=True, slots=True)
class Base:
    """A base on disk."""

    folder: Path
    denoiser: str
    """The denoiser's folder within the base; empty if it is the base itself."""
    class_name: str
    config: Mapping[str, Any]
    """The config of the denoiser."""
    conditioning: Conditioning
    components: tuple[str, ...]
    """Existing folders of the pipeline's components, sorted; empty for a bare denoiser."""
    classes: tuple[tuple[str, str, str], ...]
    """Folder, library and class of each component."""
    vae: Mapping[str, Any] | None
    """Config of the autoencoder; None for a model of pixels."""

    @property
    def denoiser_folder(self) -> Path:
        """The folder of the weights that are trained."""
        return self.folder / self.denoiser

    @property
    def channels(self) -> int:
        """Channels of the denoiser's input: of latents, or of pixels."""
        return int(self.config["in_channels"])

    @property
    def pixel_channels(self) -> int:
        """Channels of images: 1 for grey, 3 for colour."""
        return self.channels if self.vae is None else int(self.vae["in_channels"])

    @property
    def scale(self) -> int:
        """Height of an image divided by the height of the denoiser's input; the same for width."""
        return 1 if self.vae is None else int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def embeddings(self) -> int:
        """The number of class embeddings; 0 for a model without classes."""
        if self.class_name == "DiTTransformer2DModel":
            # the config does not count the embedding for no class
            return int(self.config["num_embeds_ada_norm"]) + 1
        return int(self.config.get("num_class_embeds") or 0)

    @property
    def learns_variance(self) -> bool:
        """Whether it also predicts variances, in further channels, which are not trained."""
        return int(self.config.get("out_channels") or self.channels) == 2 * self.channels


def read_base(folder: Path) -> Base:
    """Read the base in a folder.

    Raises InputError if it is not a diffusers folder, MismatchError for an unsupported model.
    """
    if not folder.is_dir():
        raise _no_folder(folder)
    listing = _object(folder / PIPELINE) if (folder / PIPELINE).is_file() else {}
    components = {
        name: (value[0], value[1])
        for name, value in listing.items()
        if _is_component(value) and (folder / name).is_dir()
    }
    denoiser = next((name for name in ("unet", "transformer") if name in components), "")
    if listing and not denoiser:
        raise MismatchError(f"has no unet and no transformer; {_supported()}", path=folder)
    if not (folder / denoiser / CONFIG).is_file():
        raise _no_diffusers_folder(folder)
    config = _object(folder / denoiser / CONFIG)
    vae = _object(folder / VAE / CONFIG) if VAE in components else None
    base = Base(
        folder=folder,
        denoiser=denoiser,
        class_name=str(config.get("_class_name")),
        config=config,
        conditioning=_conditioning(config),
        components=tuple(sorted(components)),
        classes=tuple((name, *components[name]) for name in sorted(components)),
        vae=vae,
    )
    _require_trainable(base)
    return base


def _no_folder(path: Path) -> InputError:
    if path.is_file():
        advice = "convert it with diffusers' from_single_file and save_pretrained"
        return InputError(
            "is a single file, but a base must be a diffusers folder", path=path, advice=advice
        )
    advice = "a base is a local diffusers folder; soupctl downloads nothing"
    if REMOTE.fullmatch(str(path)) and not path.parent.exists():
        advice = f"soupctl downloads nothing; run 'hf download {path} --local-dir DIR'"
    return InputError("is not a folder", path=path, advice=advice)


def _no_diffusers_folder(folder: Path) -> InputError:
    what = "is not a diffusers folder"
    advice = f"it needs {PIPELINE}, or {CONFIG} of a bare denoiser"
    if any((folder / MODEL / name).is_file() for name in (PIPELINE, CONFIG)):
        advice = f"use {folder / MODEL}"
    if any((folder / name).is_file() for name in ADAPTERS):
        what, advice = "is an adapter, not a model", "merge it with diffusers' fuse_lora"
    return InputError(what, path=folder, advice=advice)


def _is_component(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(x, str) for x in value)


def _object(path: Path) -> dict[str, Any]:
    return read_json(path)


def _supported() -> str:
    return f"supported are {', '.join(DENOISERS)}"


def _conditioning(config: Mapping[str, Any]) -> Conditioning:
    if config.get("_class_name") == "UNet2DConditionModel":
        return Conditioning.TEXT
    if config.get("_class_name") == "DiTTransformer2DModel" or config.get("num_class_embeds"):
        return Conditioning.LABEL
    return Conditioning.NONE


def _require_trainable(base: Base) -> None:
    """Raise MismatchError for a model that training and sampling do not support."""
    place = base.denoiser_folder
    if "_class_name" not in base.config:
        raise MismatchError(f"is not a diffusers model; {_supported()}", path=place)
    if base.class_name not in DENOISERS:
        raise MismatchError(f"has class {base.class_name}; {_supported()}", path=place)
    if base.config.get("addition_embed_type"):
        what = "has more conditions than text, like SDXL, which is not supported"
        raise MismatchError(what, path=place, advice="use SD 1.x or 2.x")
    if base.conditioning is Conditioning.TEXT:
        lacking = [each for each in (TEXT_ENCODER, TOKENIZER) if each not in base.components]
        if lacking or base.config.get("class_embed_type") or base.config.get("num_class_embeds"):
            what = f"takes captions, but the base has no {' and no '.join(lacking)}"
            what = what if lacking else "takes captions and classes, which is not supported"
            raise MismatchError(what, path=place)
    if base.vae is not None and base.vae.get("_class_name") != "AutoencoderKL":
        what = f"is a {base.vae.get('_class_name')}; only AutoencoderKL is supported"
        raise MismatchError(what, path=base.folder / VAE)
    if base.vae is not None and base.vae.get("latent_channels") != base.channels:
        what = f"takes {base.channels} channels, but the vae has {base.vae['latent_channels']}"
        raise MismatchError(what, path=place, advice="inpainting models are not supported")
    if base.vae is None and base.channels not in (1, 3):
        what = f"takes {base.channels} channels, but the base has no vae to make them"
        raise MismatchError(what, path=place)


def choose_resolution(base: Base, asked: int | None) -> int:
    """Height and width of the images in pixels: `asked`, or by default the base's.

    Raises MismatchError for a size that the base does not support.
    """
    size = base.config.get("sample_size")
    own = size * base.scale if isinstance(size, int) else None
    if asked is None:
        if own is None:
            raise MismatchError(
                "has no sample_size in its config", path=base.folder, advice="give --resolution"
            )
        return own
    if base.class_name == "DiTTransformer2DModel" and asked != own:
        what = f"supports only images of {own} pixels, but --resolution is {asked}"
        raise MismatchError(what, path=base.folder)
    unit = base.scale * 2 ** (len(base.config.get("down_block_types", [None])) - 1)
    if asked % unit:
        near = max(asked // unit, 1) * unit
        what = f"--resolution is {asked}, but must be a multiple of {unit}"
        raise MismatchError(what, path=base.folder, advice=f"such as {near} or {near + unit}")
    return asked


def parameter_counts(base: Base) -> dict[str, int]:
    """The number of parameters of each component, by folder, from headers."""
    model = find_model(base.folder)
    return {
        component.name: sum(
            tensor.count for file in component.files for tensor in read_header(file).tensors
        )
        for component in model.components
        if not base.components or component.name in base.components
    }


def weight_dtypes(base: Base) -> dict[DType, int]:
    """The number of the denoiser's parameters of each dtype, from headers."""
    (component,) = find_model(base.denoiser_folder).components
    counts: dict[DType, int] = {}
    for file in component.files:
        for tensor in read_header(file).tensors:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.count
    return counts


def config_digest(base: Base) -> str:
    """The digest of the configs of denoiser and noise schedule, independent of their formatting."""
    folder = base.folder / SCHEDULER
    scheduler = _object(folder / SCHEDULER_CONFIG) if (folder / SCHEDULER_CONFIG).is_file() else {}
    kept = [
        {name: value for name, value in config.items() if not name.startswith("_")}
        for config in (base.config, scheduler)
    ]
    return text_digest(canonical(kept))
