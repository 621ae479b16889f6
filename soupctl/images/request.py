"""A request for images from models: which images, on which device, and with which banks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import Issue, LimitError, UsageError

LARGEST = 1_000_000_000
"""The largest whole number of any option but the seed."""
GUIDANCE = 3.0
"""The default guidance scale."""
FLUX_GUIDANCE = 3.5
"""The default guidance scale of a Flux model that is told it."""
BOUNDS = {
    "images": (1, 1_000_000),
    "steps": (1, LARGEST),
    "seed": (0, 2**64 - 1),
    "resolution": (1, 32_768),
}


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """The images to make of each model; UsageError for values out of range."""

    prompts: tuple[str, ...] = ()
    """For models that take captions; image i gets prompt i modulo their number."""
    classes: tuple[int, ...] = ()
    """For models that take classes, used in the same way; all classes if empty."""
    images: int = 16
    steps: int = 25
    guidance: float | None = None
    """Scale of classifier-free guidance; 1 for none. None means 3, or 1 without a null class."""
    null_class: int | None = None
    """The null class; None for the model's own, if known."""
    seed: int = 0
    resolution: int | None = None
    """Height and width in pixels; None for the model's own."""
    variant: str | None = None
    """The variant of the models' weights that is preferred, such as `fp16`."""
    config_from: str | None = None
    """The folder with configs or tokenizers for models that are single files."""

    def __post_init__(self) -> None:
        """Refuse values out of range, all in one error."""
        issues = []
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and value < least:
                issues.append(Issue(f"--{name} is {value}, but must be at least {least}"))
            elif value is not None and value > most:
                issues.append(Issue(f"--{name} must be at most {most}"))
        if self.guidance is not None and not 0 <= self.guidance < math.inf:
            issues.append(Issue(f"--guidance is {self.guidance}, but must be 0 or more"))
        issues += [
            Issue(f"--prompt {text!r} is not valid UTF-8")
            for text in self.prompts
            if text != text.encode("utf-8", "replace").decode("utf-8")
        ]
        issues += [Issue("--class is too large") for each in self.classes if abs(each) > LARGEST]
        if issues:
            raise UsageError.collected(issues)


@dataclass(frozen=True, slots=True)
class BankUse:
    """Permissions to use a bank where it would otherwise be refused."""

    allow_base_mismatch: bool = False
    """On a base with other weights."""
    resize_prompts: bool = False
    """For images of another size: its prompts are interpolated."""


def device_of(text: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:1` names: with `auto`, a GPU if there is one.

    Raises UsageError for other texts, LimitError for a GPU that is not there.
    """
    if "," in text:
        what = f"--device {text!r}: one device draws the images"
        raise UsageError(what, advice="auto, cpu, cuda or cuda:N")
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {text!r} is not known", advice="auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise LimitError(f"--device {text}: there is no such GPU", advice="--device cpu")
    return device
