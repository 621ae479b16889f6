"""`soupctl sample`: words in, pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import options as shared
from .console import counted, put_json, say


def sample(
    bases: Annotated[
        list[str] | None, typer.Argument(help="Local diffusers folders.", metavar="BASE...")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A .png, or a folder of them.", metavar="OUTPUT"),
    ] = None,
    bank: Annotated[
        list[str] | None,
        typer.Option(help="A prompt bank, or a stack: drawn with and without.", metavar="BANK"),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What images show, in turn.", metavar="TEXT")
    ] = None,
    classes: Annotated[
        list[int] | None,
        typer.Option("--class", help="Which classes they show, in turn.  [all]", metavar="N"),
    ] = None,
    images: Annotated[int, typer.Option(help="Images of each model.")] = 16,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 25,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance; 1 for none.")] = 3.0,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images in pixels.  [the base's]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise that they start from.")] = 0,
    grid: Annotated[
        bool, typer.Option("--grid", help="Put a grid of all models into the folder, too.")
    ] = False,
    device: shared.Device = "auto",
    allow_base_mismatch: Annotated[
        bool,
        typer.Option("--allow-base-mismatch", help="Use a bank on other weights of its base."),
    ] = False,
    resize_prompts: Annotated[
        bool, typer.Option("--resize-prompts", help="Use a bank on images of another size.")
    ] = False,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,  # noqa: ARG001
) -> None:
    """Draw images with models: several side by side, with and without prompt banks.

    Every model starts from the same noise. A .png shows all of them in a grid each.

    Example: soupctl sample base soup --prompt 'a red circle' -o grid.png
    """
    if not bases or output is None:
        raise UsageError("what to draw with and where to are both needed", advice="BASE, -o")
    from ..diffusion.libraries import require_extra

    require_extra()
    from ..images.compare import Allowed, SampleRequest, device_of, draw
    from ..images.save import require_place, save_images

    wish = SampleRequest(
        tuple(prompt or ()), tuple(classes or ()), images, steps, guidance, seed, resolution
    )
    target, chosen = Path(output), device_of(device)
    require_place(target, replace=force)
    drawn = []
    for each in draw(
        [Path(shared.named(base)) for base in bases],
        [Path(shared.named(name)) for name in bank or ()],
        wish,
        chosen,
        Allowed(allow_base_mismatch, resize_prompts),
    ):
        say(f"{each.name}: {counted(len(each.images), 'image')}", quiet)
        drawn.append(each)
    save_images(drawn, target, with_grid=grid, replace=force)
    if json:
        put_json({"output": output, "models": [each.name for each in drawn], "images": images})
