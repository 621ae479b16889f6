"""Options of the data: images, captions and classes."""

from __future__ import annotations

from ..choices import CaptionFiles
from ..frozen import frozen
from .option_fields import AT_LEAST_0, AT_LEAST_1, FRACTION, SIDE, Bounds, option
from .step_options import StepOptions


@frozen
class DataOptions(StepOptions):
    """The options of the data, after those of the steps."""

    resolution: int | None = option(
        None,
        "Height and width of the images in pixels.",
        SIDE,
        metavar="N",
        default_text="the base's",
    )
    buckets: bool = option(
        False,
        "Keep the shapes of images: batches of several sizes with about as many pixels.",
        is_recorded_unset=False,
        is_for_banks=False,
    )
    bucket_resolutions: tuple[int, ...] = option(
        (),
        "Further resolutions of buckets: each image has the largest that needs no enlargement.",
        SIDE,
        is_on_command_line=False,
        is_recorded_unset=False,
        is_for_banks=False,
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
    repeats: bool = option(
        True,
        "Count images in folders such as 10_name so many times, unless folders are classes.",
        is_on_command_line=False,
        # a run's identity has the repeats that count
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
    masked_loss: bool = option(
        False,
        "Weight the loss by masks such as x.mask.png beside x.png: white counts, black does not.",
        is_recorded_unset=False,
        is_for_banks=False,
    )
    regularization: str | None = option(
        None,
        "Folder of regularization images, as many of which are added to each batch.",
        metavar="DIR",
        default_text="none",
        # a run's identity has the digest of all images
        changes_weights=False,
        is_for_banks=False,
    )
    regularization_weight: float = option(
        1.0,
        "Weight of the loss of regularization images.",
        AT_LEAST_0,
        is_on_command_line=False,
        is_recorded_unset=False,
        is_for_banks=False,
    )
    validate: str | None = option(
        None,
        "Folder of images that are not trained on, to measure a validation loss.",
        metavar="DIR",
        default_text="none",
        changes_weights=False,
    )
    validate_share: float | None = option(
        None,
        "Share of the images to hold out instead of --validate.",
        Bounds(0, 1, above=True),
        metavar="P",
        default_text="none",
        # the digest of the data covers only the images that are trained on
        changes_weights=False,
    )
    validate_every: int | None = option(
        None,
        "Steps between measurements of the validation loss.",
        AT_LEAST_1,
        default_text="as save-every",
        is_on_command_line=False,
        changes_weights=False,
    )
