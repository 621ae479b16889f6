"""A base: a local diffusers folder, described without loading a model.

Rule 1: only the denoiser is trained; all other components of a pipeline stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import MismatchError
from .base_files import BaseFiles
from .component_classes import CONFIG, ComponentClass
from .families.family import DenoiserFamily, TextPart
from .families.table import family_of

MODEL = "model"
"""The folder of a training run that holds the trained model."""
VAE, SCHEDULER = "vae", "scheduler"
VQVAE = "vqvae"
"""The folder of an autoencoder that quantises latents when it decodes them."""
AUTOENCODERS = (VAE, VQVAE)
CLIPPING = frozenset(
    f"{name}Scheduler" for name in ("DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel")
)
"""Schedulers that clip samples unless their config says otherwise."""


class Conditioning(Enum):
    """The kind of conditioning of a denoiser, in addition to the noisy image and its timestep."""

    NONE = "nothing"
    LABEL = "classes"
    TEXT = "captions"


@dataclass(frozen=True, slots=True)
class Base:
    """A base on disk."""

    folder: Path
    given: Path
    """The folder or single file that the user named, for messages."""
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
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    """The pipeline's own settings in its list of components; none for a bare denoiser."""
    left_out: tuple[str, ...] = ()
    """Copies of the denoiser that are beside it, and not used."""

    @property
    def family(self) -> DenoiserFamily:
        """How its denoiser is trained and sampled."""
        found = family_of(self.config)
        assert found is not None, "a base of no family is refused when it is read"
        return found

    @property
    def texts(self) -> tuple[TextPart, ...]:
        """The text encoders that it has."""
        return tuple(each for each in self.family.texts if each.encoder in self.configs)

    @property
    def autoencoder(self) -> str:
        """The autoencoder's folder within the base; empty for a model of pixels."""
        return next((name for name in AUTOENCODERS if name in self.configs), "")

    @property
    def vae(self) -> Mapping[str, Any] | None:
        """Config of the autoencoder; None for a model of pixels."""
        return self.configs[self.autoencoder] if self.autoencoder else None

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

    def place(self, component: str) -> Path:
        """The folder of a component's files: its own, or the base's."""
        return (self.folder / self.files.inside(component, CONFIG)).parent

    @property
    def denoiser_folder(self) -> Path:
        """The folder of the weights that are trained."""
        return self.folder / self.denoiser

    @property
    def channels(self) -> int:
        """Channels of the latents, or pixels, that are denoised."""
        return int(self.config["in_channels"]) // self.family.packing

    @property
    def pixel_channels(self) -> int:
        """Channels of images: 1 for grey, 3 for colour."""
        return self.channels if self.vae is None else int(self.vae["in_channels"])

    @property
    def scale(self) -> int:
        """Height of an image divided by the height of the denoiser's input; the same for width."""
        return 1 if self.vae is None else int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def size_unit(self) -> int:
        """The number of pixels that height and width of an image are multiples of."""
        return self.scale * self.patch * 2 ** (len(self.config.get("down_block_types", [None])) - 1)

    @property
    def longest_side(self) -> int | None:
        """Most pixels of the height or width of an image, if its positions are in a table."""
        positions = self.config.get("pos_embed_max_size")
        return int(positions) * self.patch * self.scale if positions else None

    @property
    def patch(self) -> int:
        """Height and width of the part of latents that is one token; 1 for a UNet."""
        return self.family.patch or int(self.config.get("patch_size") or 1)

    @property
    def embeds_guidance(self) -> bool:
        """Whether the guidance scale is one of its inputs, in place of two predictions a step."""
        return bool(self.config.get("guidance_embeds"))

    @property
    def embeddings(self) -> int:
        """The number of class embeddings; 0 for a model without classes."""
        if self.class_name == "DiTTransformer2DModel":
            # the config does not count the embedding of the null class
            return int(self.config["num_embeds_ada_norm"]) + 1
        return int(self.config.get("num_class_embeds") or 0)

    @property
    def is_clipped(self) -> bool:
        """Whether sampling clips what a step predicts of the image, as diffusers' pipelines do."""
        if self.autoencoder == VAE:
            # latents have values beyond [-1, 1]
            return False
        own = self.configs.get(SCHEDULER, {}).get("clip_sample")
        # images are sampled by DDIM, which clips by default
        return (not self.autoencoder or self.scheduler_class in CLIPPING) if own is None else own

    @property
    def learns_variance(self) -> bool:
        """Whether it also predicts variances, in extra channels, which are not trained."""
        return int(self.config.get("out_channels") or self.channels) == 2 * self.channels


def choose_resolution(base: Base, asked: int | None, option: str = "--resolution") -> int:
    """Height and width of the images in pixels: `asked` by an option, or by default the base's.

    Raises MismatchError for a size that the base does not support.
    """
    size = base.config.get("sample_size", base.family.sample_size)
    own = size * base.scale if isinstance(size, int) else None
    if asked is None:
        if own is None:
            what = "has no sample_size in its config"
            if size is not None:
                what = f"has images of {size[0]} by {size[1]} as its sample_size, not square ones"
            raise MismatchError(what, path=base.given, advice="give --resolution")
        return own
    if base.class_name == "DiTTransformer2DModel" and asked != own:
        what = f"supports only images of {own} pixels, but {option} is {asked}"
        raise MismatchError(what, path=base.given)
    unit = base.size_unit
    if asked % unit:
        near = max(asked // unit, 1) * unit
        what = f"{option} is {asked}, but must be a multiple of {unit}"
        raise MismatchError(what, path=base.given, advice=f"such as {near} or {near + unit}")
    return asked
