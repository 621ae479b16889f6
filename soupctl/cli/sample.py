"""`soupctl sample`: generates images with models, with and without prompt banks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..collector import collect_as_usual
from ..errors import UsageError
from ..frozen import frozen
from . import options
from .console import counted, put_json, say
from .option_groups import with_option_groups
from .progress import steps_progress
from .training_options import ConfigsOfSingleFile

if TYPE_CHECKING:
    from ..images.compare import ModelImages
    from ..images.request import BankUse, SampleRequest


@frozen
class DrawingOptions:
    """The options that decide which images are drawn."""

    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="Prompt of the images; can be repeated; images cycle through all.",
            metavar="TEXT",
        ),
    ] = None
    classes: Annotated[
        list[int] | None,
        typer.Option(
            "--class",
            help="Class of the images; can be repeated; images cycle through all. [default: all]",
            metavar="N",
        ),
    ] = None
    images: Annotated[int, typer.Option(help="Images of each model.")] = 16
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 25
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Classifier-free guidance scale; 1 for none.  "
            "[default: 3; 1 if the null class is unknown]",
        ),
    ] = None
    null_class: Annotated[
        int | None,
        typer.Option(help="Null class for guidance. [default: the model's, if known]", metavar="N"),
    ] = None
    resolution: Annotated[
        int | None,
        typer.Option(help="Height and width of the images in pixels.  [default: the base's]"),
    ] = None
    seed: Annotated[int, typer.Option(help="Random seed of the initial noise.")] = 0
    variant: options.Variant = None
    config_from: ConfigsOfSingleFile = None

    def request(self) -> SampleRequest:
        """The request for these images; UsageError for values out of range."""
        from ..images.request import SampleRequest

        return SampleRequest(
            tuple(self.prompt or ()),
            tuple(self.classes or ()),
            self.images,
            self.steps,
            self.guidance,
            self.null_class,
            self.seed,
            self.resolution,
            self.variant,
            self.config_from,
        )


@frozen
class BankOptions:
    """The options that say with which bases a prompt bank may be used."""

    allow_base_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-base-mismatch",
            help="Use a bank although the base's weights differ from those it was trained on.",
        ),
    ] = False
    resize_prompts: Annotated[
        bool,
        typer.Option("--resize-prompts", help="Resize a bank's prompts to images of another size."),
    ] = False

    def use(self) -> BankUse:
        """How a bank may be used."""
        from ..images.request import BankUse

        return BankUse(self.allow_base_mismatch, self.resize_prompts)


@with_option_groups
def sample(
    bases: Annotated[
        list[str] | None,
        typer.Argument(help="Local diffusers folders, or single files.", metavar="BASE..."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A .png for a grid of all images, or a folder for one file each.",
            metavar="OUTPUT",
        ),
    ] = None,
    bank: Annotated[
        list[str] | None,
        typer.Option(
            help="Prompt bank or stack; each base is sampled with and without it.", metavar="BANK"
        ),
    ] = None,
    *,
    drawing: DrawingOptions,
    grid: Annotated[
        bool, typer.Option("--grid", help="Also save a grid of all models in the folder.")
    ] = False,
    device: options.OneDevice = "auto",
    banks: BankOptions,
    force: options.Force = False,
    printing: options.PrintOptions,
) -> None:
    """Generate images with models, side by side, with and without prompt banks.

    All models start from the same noise. A .png has one grid for each model.

    Example: soupctl sample base soup --prompt 'a red circle' -o grid.png
    """
    if not bases or output is None:
        raise UsageError("BASE and -o are required")
    from ..diffusion.libraries import require_extra

    require_extra()
    collect_as_usual()
    from ..images.compare import sample_models
    from ..images.request import device_of
    from ..images.save import require_place, save_images

    request, target, chosen = drawing.request(), Path(output), device_of(device)
    require_place(target, replace=force)
    folders = [Path(options.named(each)) for each in bases]
    attached = [Path(options.named(each)) for each in bank or ()]
    models = []
    with steps_progress("denoising", printing.quiet) as on_step:
        for each in sample_models(folders, attached, request, chosen, banks.use(), on_step):
            _report(each, printing.quiet)
            models.append(each)
    save_images(models, target, with_grid=grid, replace=force)
    if printing.json:
        names = [each.name for each in models]
        put_json({"output": output, "models": names, "images": request.images})


def _report(sampled: ModelImages, quiet: bool) -> None:
    """Report the images of one model on stderr."""
    say(f"{sampled.name}: {counted(len(sampled.images), 'image')}", quiet)
    if sampled.notice:
        say(f"{sampled.name}: {sampled.notice}", quiet)
