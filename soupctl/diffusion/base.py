"""A base: a local diffusers folder, described without loading a model.

Rule 1: all that can be refused from configs and headers is refused here, before data is read.
Rule 2: only the denoiser is trained; all other components of a pipeline stay as they are.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..checkpoints.listing import PIPELINE
from ..errors import InputError, MismatchError
from .base_files import BaseFiles
from .component_classes import (
    CONFIG,
    DENOISERS,
    NOISE_SCHEDULERS,
    SCHEDULER_CONFIG,
    VOCABULARIES,
    ComponentClass,
    known_components,
    listed_classes,
    supported,
    unsupported_denoiser,
)
from .config_fields import FIELDS, SCHEDULER_FIELDS, require_fields

MODEL = "model"
"""The folder of a training run that holds the trained model."""
ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors")
LONGEST_CLASS = 80
"""Characters that are shown of the name of a class."""
REMOTE = re.compile(r"[\w.-]+/[\w.-]+")
"""The form of a model's name on the hub."""
VAE, TEXT_ENCODER, TOKENIZER, SCHEDULER = "vae", "text_encoder", "tokenizer", "scheduler"
BARE_SCHEDULER = ComponentClass("diffusers", "DDPMScheduler", (SCHEDULER_CONFIG,), False)
"""The scheduler beside a bare denoiser; its config says its class."""


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
    components: Mapping[str, ComponentClass]
    """Classes of the components that exist, by folder; a bare denoiser has the empty name."""
    configs: Mapping[str, Mapping[str, Any]]
    """Configs of the components that are loaded, by folder."""
    files: BaseFiles
    """The base's files as they were read."""

    @property
    def vae(self) -> Mapping[str, Any] | None:
        """Config of the autoencoder; None for a model of pixels."""
        return self.configs.get(VAE)

    @property
    def loaded(self) -> dict[str, ComponentClass]:
        """The classes of the components that training and sampling use, by folder."""
        return {name: self.components[name] for name in sorted(self.configs)}

    @property
    def scheduler_class(self) -> str | None:
        """The class of the scheduler, by its config or else by the pipeline; None without one."""
        if SCHEDULER not in self.configs:
            return None
        return str(self.configs[SCHEDULER].get("_class_name", self.components[SCHEDULER].name))

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
    """Read the base in a folder: its configs, which are checked, and where its weights are.

    Raises InputError if it is not a diffusers folder, or if a config is not valid, MismatchError
    for an unsupported model, or one that names code.
    """
    if not folder.is_dir():
        raise _no_folder(folder)
    files = BaseFiles(folder)
    listing = files.read_config(PIPELINE)
    listed = listed_classes(listing or {}, folder / PIPELINE)
    denoiser = next(
        (name for name in ("unet", "transformer") if name in listed and (folder / name).is_dir()),
        "",
    )
    if listed and not denoiser:
        raise MismatchError(f"has no unet and no transformer; {supported()}", path=folder)
    config = files.read_config(str(Path(denoiser, CONFIG)))
    if config is None:
        raise _no_diffusers_folder(folder)
    _require_supported(config, folder / denoiser)
    if denoiser:
        found = known_components(listed, folder)
        components = {name: found[name] for name in sorted(found) if (folder / name).is_dir()}
    else:
        components = {"": ComponentClass("diffusers", str(config["_class_name"]))}
        if (folder / SCHEDULER).is_dir():
            components[SCHEDULER] = BARE_SCHEDULER
    class_name = str(config["_class_name"])
    if components[denoiser].name != class_name:
        what = f"has class {class_name}, but {PIPELINE} says {components[denoiser].name}"
        raise MismatchError(what, path=folder / denoiser)
    conditioning = _conditioning(config)
    configs = {denoiser: config, **_read_components(files, components, denoiser, conditioning)}
    base = Base(folder, denoiser, class_name, config, conditioning, components, configs, files)
    _require_trainable(base)
    return base


def _read_components(
    files: BaseFiles,
    components: Mapping[str, ComponentClass],
    denoiser: str,
    conditioning: Conditioning,
) -> dict[str, dict[str, Any]]:
    """The configs of the components that are loaded besides the denoiser.

    The files of all components are read, and their weights found.
    """
    used = {denoiser, VAE, SCHEDULER}
    if conditioning is Conditioning.TEXT:
        used |= {TEXT_ENCODER, TOKENIZER}
    configs = {}
    for name, kind in components.items():
        if kind.has_weights and (name in used or files.has_weights(name)):
            files.find_weights(name)
        for file in kind.files:
            within = str(Path(name, file))
            if file in VOCABULARIES:
                files.read(within)
            elif within not in files.contents:
                config = files.read_config(within)
                if config is None and name in used:
                    raise InputError(f"has no {file}", path=files.folder / name)
                if config is not None and name in used:
                    configs[name] = config
    return configs


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


def _conditioning(config: Mapping[str, Any]) -> Conditioning:
    if config.get("_class_name") == "UNet2DConditionModel":
        return Conditioning.TEXT
    if config.get("_class_name") == "DiTTransformer2DModel" or config.get("num_class_embeds"):
        return Conditioning.LABEL
    return Conditioning.NONE


def _require_supported(config: Mapping[str, Any], place: Path) -> None:
    """Raise MismatchError for a denoiser of a kind that is not supported."""
    if "_class_name" not in config:
        raise MismatchError(f"is not a diffusers model; {supported()}", path=place)
    if config["_class_name"] not in DENOISERS:
        raise unsupported_denoiser(_shown_class(config["_class_name"]), place)
    if config.get("addition_embed_type"):
        what = "has more conditions than text, like SDXL, which is not supported"
        raise MismatchError(what, path=place, advice="use SD 1.x or 2.x")


def _shown_class(name: object) -> str:
    """The name of a class in a config, which may be anything, as a message shows it."""
    # reprlib shows less than some names have
    return repr(name)[:LONGEST_CLASS].strip("'")


def _require_trainable(base: Base) -> None:
    """Raise InputError for a malformed config, MismatchError for what is not supported."""
    place = base.denoiser_folder
    for name, config in base.configs.items():
        kind = base.components[name]
        if name == SCHEDULER and base.scheduler_class not in NOISE_SCHEDULERS:
            prediction = config.get("prediction_type")
            own = _shown_class(base.scheduler_class)
            what = f"scheduler {own} with prediction {reprlib.repr(prediction)} is not supported"
            raise MismatchError(f"the base's {what}")
        fields = FIELDS.get(kind.name, SCHEDULER_FIELDS)
        require_fields(config, fields, base.folder / name / kind.files[0])
    if base.conditioning is Conditioning.TEXT:
        lacking = [each for each in (TEXT_ENCODER, TOKENIZER) if each not in base.components]
        if lacking or base.config.get("class_embed_type") or base.config.get("num_class_embeds"):
            what = f"takes captions, but the base has no {' and no '.join(lacking)}"
            what = what if lacking else "takes captions and classes, which is not supported"
            raise MismatchError(what, path=place)
    if base.vae is not None:
        _require_fitting_vae(base, base.vae)
    if base.vae is None and base.channels not in (1, 3):
        what = f"takes {base.channels} channels, but the base has no vae to make them"
        raise MismatchError(what, path=place)


def _require_fitting_vae(base: Base, vae: Mapping[str, Any]) -> None:
    """Raise MismatchError for an autoencoder that does not fit the denoiser, or images."""
    place = base.folder / VAE
    if base.components[VAE].name != "AutoencoderKL" or vae.get("_class_name") != "AutoencoderKL":
        what = f"is a {_shown_class(vae.get('_class_name'))}; only AutoencoderKL is supported"
        raise MismatchError(what, path=place)
    if vae["latent_channels"] != base.channels:
        what = f"takes {base.channels} channels, but the vae has {vae['latent_channels']}"
        raise MismatchError(
            what, path=base.denoiser_folder, advice="inpainting models are not supported"
        )
    if vae["in_channels"] not in (1, 3):
        raise MismatchError(f"takes images of {vae['in_channels']} channels", path=place)


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
