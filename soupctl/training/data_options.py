"""Options of the data: images, captions and classes."""

from __future__ import annotations

from dataclasses import dataclass

from ..choices import CaptionFiles
from .option_fields import FRACTION, SIDE, option
from .step_options import StepOptions


@dataclass(frozen=True, slots=True)
class DataOptions(StepOptions):
    """The options of the data, after those of the steps."""

    resolution: int | None = option(
        None,
        "Height and width of the images in pixels.",
        SIDE,
        metavar="N",
        default_text="the base's",
    )
    random_crop: bool = option(
        False, "Crop images at random instead of at the center.", is_on_command_line=False
    )
    flip: bool = option(
        False, "Mirror half of the images at random, left to right.", is_on_command_line=False
    )
    caption_column: str = option(
        "text", "Field of metadata.jsonl that holds the captions.", is_on_command_line=False
    )
    caption_files: CaptionFiles = option(
        CaptionFiles.LINES,
        "Whether a caption file has one caption a line, or is one caption as a whole.",
        is_on_command_line=False,
        # the digest of the data already covers the captions
        changes_weights=False,
    )
    cond_drop: float = option(
        0.1,
        "Probability of dropping a caption or class, for classifier-free guidance.",
        FRACTION,
        metavar="P",
    )
    classes: tuple[str, ...] = option(
        (),
        "Names of all classes of the base, in order, for data with only some of them.",
        is_on_command_line=False,
    )
