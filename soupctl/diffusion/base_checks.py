"""What a base's configs have to be for its denoiser to be trained and sampled.

Rule 1: everything here is told from configs alone, before data is read.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.listing import PIPELINE
from ..errors import InputError, MismatchError
from .base import SCHEDULER, VAE, VQVAE, Base, Conditioning
from .base_files import BaseFiles
from .component_classes import CONFIG, FLOW_SCHEDULERS, NOISE_SCHEDULERS, ComponentClass
from .config_fields import FIELDS, FLOW_FIELDS, SCHEDULER_FIELDS, require_fields

AUTOENCODERS: Mapping[str, tuple[str, ...]] = {
    VAE: ("AutoencoderKL",),
    VQVAE: ("VQModel", "AutoencoderKL"),
}
"""The classes of an autoencoder, by its folder."""
OF_LATENTS = ("LDMPipeline", "LatentDiffusionUncondPipeline")
"""Classes of pipelines whose denoiser takes latents, although they may have as many channels."""
LONGEST_CLASS = 80
"""Characters of a class name that messages show."""


def shown_class(name: object) -> str:
    """The class name in a config, which may be any value, as a message shows it."""
    # longer than what reprlib shows, because some names are long
    return repr(name)[:LONGEST_CLASS].strip("'")


def require_whole(
    listed: Mapping[str, ComponentClass], files: BaseFiles, optional: Sequence[str]
) -> None:
    """Raise InputError for a pipeline that lacks a component on which the others depend."""
    if SCHEDULER not in listed:
        what = f"names no {SCHEDULER}, so the noise that the model was trained with is not known"
        add = f"add the {SCHEDULER} of the pipeline that it comes from"
        raise InputError(what, path=files.folder / PIPELINE, advice=add)
    for name in AUTOENCODERS:
        if name not in listed and (files.folder / name / CONFIG).is_file():
            what = (
                f"is there, but {PIPELINE} does not name it, so latents would be taken for pixels"
            )
            advice = "name it there, or remove it"
            raise InputError(what, path=files.folder / name, advice=advice)
    for name in (*AUTOENCODERS, SCHEDULER, *optional):
        # without an autoencoder, latents would be taken for pixels
        if name in listed and not files.holds(name, listed[name]):
            what = f"is missing, though {PIPELINE} names it"
            way = "add it, or write [null, null] for it there" if name in optional else None
            raise InputError(what, path=files.folder / name, advice=way)


def require_trainable(base: Base) -> None:
    """Raise InputError for a malformed config, MismatchError for what is not supported."""
    place = base.denoiser_folder
    for name, config in base.configs.items():
        kind = base.components[name]
        is_flow = name == SCHEDULER and base.family.is_flow
        if name == SCHEDULER:
            _require_fitting_scheduler(base)
            if not is_flow:
                _require_steps_of_noise(config, base.place(name))
        fields = FIELDS.get(kind.name, FLOW_FIELDS if is_flow else SCHEDULER_FIELDS)
        require_fields(config, fields, base.place(name) / kind.files[0])
    if base.config.get("time_cond_proj_dim") is not None:
        what = "embeds the guidance scale (time_cond_proj_dim), as distilled models do"
        raise MismatchError(what, path=place, advice="use the model that it was distilled from")
    if base.conditioning is Conditioning.TEXT:
        _require_texts(base)
    if base.family.is_flow and not {VAE, SCHEDULER} <= base.configs.keys():
        what = f"is of {base.family.name}, but the base has no vae or no scheduler"
        raise MismatchError(what, path=place)
    if base.vae is not None:
        _require_fitting_vae(base, base.vae)
    elif base.pipeline.get("_class_name") in OF_LATENTS:
        what = f"is a {base.pipeline['_class_name']}, but has no autoencoder to make its latents"
        raise MismatchError(what, path=base.folder / PIPELINE)
    if base.vae is None and base.channels not in (1, 3):
        what = f"takes {base.channels} channels, but the base has no vae to make them"
        raise MismatchError(what, path=place)


def _require_fitting_scheduler(base: Base) -> None:
    """Raise MismatchError for a scheduler of flow matching with a denoiser of betas, or reverse."""
    own = shown_class(base.scheduler_class)
    if base.family.is_flow and base.scheduler_class not in FLOW_SCHEDULERS[:1]:
        what = f"is a {own}, and {base.family.name} needs a {FLOW_SCHEDULERS[0]}"
    elif not base.family.is_flow and base.scheduler_class not in NOISE_SCHEDULERS:
        what = f"is a {own}, and flow matching is supported for SD 3.x and Flux only"
    else:
        return
    raise MismatchError(what, path=base.place(SCHEDULER))


def _require_texts(base: Base) -> None:
    """Raise MismatchError for a base that takes captions but lacks what encodes them."""
    place = base.denoiser_folder
    lacking = [
        name
        for part in base.family.texts
        for name in (part.encoder, part.tokenizer)
        if name not in base.components and (not part.is_optional or part.encoder in base.configs)
    ]
    if lacking or base.config.get("class_embed_type") or base.config.get("num_class_embeds"):
        what = f"takes captions, but the base has no {' and no '.join(lacking)}"
        what = what if lacking else "takes captions and classes, which is not supported"
        raise MismatchError(what, path=place)
    for part in base.family.texts:
        kind = base.components[part.encoder].name if part.encoder in base.components else None
        if kind is not None and kind not in part.classes:
            what = f"is a {kind}, but {base.family.name} has a {' or a '.join(part.classes)} there"
            raise MismatchError(what, path=base.folder / part.encoder)


def _require_steps_of_noise(config: Mapping[str, Any], place: Path) -> None:
    """Raise MismatchError for a scheduler with betas whose model was trained on other noise."""
    for field, usual in (("use_flow_sigmas", False), ("timestep_type", "discrete")):
        found = config.get(field)
        if found not in (None, usual):
            what = f"has {field} {reprlib.repr(found)}, so its model was trained on other noise"
            raise MismatchError(what, path=place, advice="supported are discrete steps with betas")


def _require_fitting_vae(base: Base, vae: Mapping[str, Any]) -> None:
    """Raise MismatchError for an autoencoder that does not fit the denoiser, or images."""
    name = base.autoencoder
    place, classes = base.folder / name, AUTOENCODERS[name]
    kind = vae.get("_class_name")
    if kind not in classes or base.components[name].name != kind:
        what = f"is a {shown_class(kind)}; only {' and '.join(classes)} is supported"
        raise MismatchError(what, path=place)
    channels = vae.get("vq_embed_dim") or vae["latent_channels"]
    if channels != base.channels:
        what = f"takes {base.channels} channels, but the {name} has {channels}"
        raise MismatchError(
            what, path=base.denoiser_folder, advice="inpainting models are not supported"
        )
    if vae["in_channels"] not in (1, 3):
        raise MismatchError(f"takes images of {vae['in_channels']} channels", path=place)
